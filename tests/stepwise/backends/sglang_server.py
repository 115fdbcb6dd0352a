"""An SGLang server that writes a fixed solution, a token a character: the exchanges of its ``/generate`` in
the form that it documents.

- ``output_ids``, ``completion_tokens`` and the log-probabilities count the token that ends an answer.
- An event holds everything from the beginning; with ``incremental`` what is new, but for the counts.
- An error in a stream is an event; outside of one it is a status of 400.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.characters import VOCABULARY

END = 0
IDS = {character: i for i, character in enumerate(VOCABULARY)}


@dataclass
class SglangServer:
    """Writes what of ``question + solution`` follows a prompt.

    Attributes:
        incremental: whether it was started with ``--incremental-streaming-output``.
        interval: tokens of an event.
        blocks_after: tokens after which it waits for ``go_on``.
        breaks_after: tokens after which it breaks a connection, once.
        damages: the event that is lost, or comes ``twice``.
    """

    question: str
    solution: str
    context: int = 400
    incremental: bool = False
    interval: int = 1
    blocks_after: int | None = None
    breaks_after: int | None = None
    damages: int | None = None
    twice: bool = False
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    prompt_tokens: int = 0
    written_tokens: int = 0
    cache: list[int] = field(default_factory=list)

    def follows(self, prompt: list[int]) -> list[int]:
        whole = [IDS[c] for c in self.question + self.solution]
        return [*whole[len(prompt) :], END] if prompt == whole[: len(prompt)] else [END]

    async def generate(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        prompt, sampling = body["input_ids"], body["sampling_params"]
        if len(prompt) >= self.context:
            message = (
                f"The input ({len(prompt)} tokens) is longer than the model's context length "
                f"({self.context} tokens)."
            )
            return web.json_response({"error": {"message": message}}, status=400)
        cached = self._cached(prompt)
        self.prompt_tokens += len(prompt)
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        if body.get("stream"):
            await stream.prepare(request)
        written: list[int] = []
        finish: dict[str, Any] | None = None
        shown = events = 0
        try:
            for token in self.follows(prompt)[: sampling["max_new_tokens"]]:
                if self.blocks_after == len(written):
                    await self.go_on.wait()
                written.append(token)
                self.written_tokens += 1
                self.cache = [*prompt, *written]
                finish = self._finish(written, sampling)
                if self.breaks_after == len(written):
                    self.breaks_after = None
                    assert request.transport is not None
                    request.transport.abort()
                    return stream
                if body.get("stream") and (finish or len(written) % self.interval == 0):
                    events += 1
                    since = shown if self.incremental else 0
                    event = self._answer(prompt, cached, written, since, finish)
                    times = (2 if self.twice else 0) if self.damages == events else 1
                    for _ in range(times):
                        await stream.write(f"data: {json.dumps(event)}\n\n".encode())
                    shown = len(written)
                if finish:
                    break
        except (ConnectionError, asyncio.CancelledError):
            self.left.set()
            raise
        if not body.get("stream"):
            return web.json_response(self._answer(prompt, cached, written, 0, finish))
        await stream.write(b"data: [DONE]\n\n")
        return stream

    def _cached(self, prompt: list[int]) -> int:
        length = 0
        while length < min(len(prompt) - 1, len(self.cache)) and prompt[length] == self.cache[length]:
            length += 1
        return length

    def _finish(self, written: list[int], sampling: dict[str, Any]) -> dict[str, Any] | None:
        text = "".join("" if token == END else VOCABULARY[token] for token in written)
        if written[-1] == END:
            return {"type": "stop", "matched": END}
        for stop in sampling["stop"]:
            if stop in text:
                return {"type": "stop", "matched": stop}
        full = len(written) == sampling["max_new_tokens"]
        return {"type": "length", "length": len(written)} if full else None

    def _answer(
        self, prompt: list[int], cached: int, written: list[int], since: int, finish: dict[str, Any] | None
    ) -> dict[str, Any]:
        return answer(written[since:], len(written), len(prompt), cached, finish)

    async def models(self, _: web.Request) -> web.Response:
        model = {"id": "m", "object": "model", "owned_by": "sglang", "max_model_len": self.context}
        return web.json_response({"object": "list", "data": [model]})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Its root."""
        app = web.Application()
        app.router.add_post("/generate", self.generate)
        app.router.add_get("/v1/models", self.models)
        async with TestServer(app, handler_cancellation=True) as server:
            yield str(server.make_url("/")).rstrip("/")


def answer(
    ids: list[int], written: int, prompt: int, cached: int, finish: dict[str, Any] | None
) -> dict[str, Any]:
    """An answer or an event that shows ``ids``, the last ones of so many."""
    likely = [-1.0 if token == END else -0.1 for token in ids]
    return {
        "text": "".join("" if token == END else VOCABULARY[token] for token in ids),
        "output_ids": ids,
        "meta_info": {
            "id": "0" * 32,
            "finish_reason": finish,
            "prompt_tokens": prompt,
            "weight_version": "default",
            "input_token_logprobs": [],
            "output_token_logprobs": [[value, i, None] for value, i in zip(likely, ids, strict=True)],
            "input_top_logprobs": [],
            "output_top_logprobs": [
                [[value, i, None], [-3.0, i + 1, None]] for value, i in zip(likely, ids, strict=True)
            ],
            "completion_tokens": written,
            "cached_tokens": cached,
        },
    }
