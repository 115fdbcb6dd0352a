"""A llama-server that writes a fixed solution, a token a character: the exchanges of its ``/completion`` in
the form that it documents, with its quirks.

- ``tokens_cached`` is what the slot holds at the end; ``timings`` say what was computed.
- A token that ends inside a character is counted, and has no event of its own.
- No ``[DONE]`` ends a stream.
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
class LlamaServer:
    """Writes what of ``question + solution`` follows a prompt.

    Attributes:
        halves: characters of which two stand for one that takes two tokens.
        blocks_after: tokens after which it waits for ``go_on``.
        breaks_after: tokens after which it breaks a connection, once.
        damages: the token whose event is lost, or comes ``twice``.
    """

    question: str
    solution: str
    context: int = 400
    halves: str = ""
    blocks_after: int | None = None
    breaks_after: int | None = None
    damages: int | None = None
    twice: bool = False
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    prompt_tokens: int = 0
    computed_tokens: int = 0
    written_tokens: int = 0
    cache: list[int] = field(default_factory=list)

    def follows(self, prompt: list[int]) -> list[int]:
        whole = [IDS[c] for c in self.question + self.solution]
        return [*whole[len(prompt) :], END] if prompt == whole[: len(prompt)] else [END]

    async def completion(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        prompt, prefix = body["prompt"], 0
        if len(prompt) >= self.context:
            message = f"request ({len(prompt)} tokens) exceeds the available context size ({self.context})"
            error = {"code": 400, "message": message, "type": "exceed_context_size_error"}
            return web.json_response({"error": error}, status=400)
        while prefix < min(len(prompt) - 1, len(self.cache)) and prompt[prefix] == self.cache[prefix]:
            prefix += 1
        computed = len(prompt) - prefix
        self.prompt_tokens += len(prompt)
        self.computed_tokens += computed
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        written: list[int] = []
        text, sent, stop_type, word = "", 0, "limit", ""
        account = {"cache_n": prefix, "prompt_n": computed}
        try:
            for token in self.follows(prompt)[: body["n_predict"]]:
                if self.blocks_after == len(written):
                    await self.go_on.wait()
                written.append(token)
                self.written_tokens += 1
                self.cache = [*prompt, *written]
                text += "" if token == END else VOCABULARY[token]
                if token == END or VOCABULARY[token] not in self.halves or text[-2:-1] == text[-1]:
                    shown = {
                        "index": 0,
                        "content": text[sent:],
                        "tokens": [token],
                        "stop": False,
                        "id_slot": 0,
                        "tokens_predicted": len(written),
                        "tokens_evaluated": len(prompt),
                        "timings": {**account, "predicted_n": len(written)},
                        "completion_probabilities": [probabilities(token)],
                    }
                    times = (2 if self.twice else 0) if self.damages == len(written) else 1
                    for _ in range(times):
                        await self._send(response, shown)
                    sent = len(text)
                if self.breaks_after == len(written):
                    self.breaks_after = None
                    assert request.transport is not None
                    request.transport.abort()
                    return response
                word = next((stop for stop in body["stop"] if stop in text), "")
                if token == END or word:
                    stop_type = "word" if word else "eos"
                    break
        except (ConnectionError, asyncio.CancelledError):
            self.left.set()
            raise
        final = {
            "index": 0, "content": "", "tokens": [], "id_slot": 0, "stop": True, "model": "m",
            "tokens_predicted": len(written), "tokens_evaluated": len(prompt), "truncated": False,
            "stop_type": stop_type, "stopping_word": word, "tokens_cached": len(prompt) + len(written),
            "timings": {**account, "predicted_n": len(written)},
        }  # fmt: skip
        await self._send(response, final)
        return response

    async def _send(self, response: web.StreamResponse, event: dict[str, Any]) -> None:
        await response.write(f"data: {json.dumps(event)}\n\n".encode())

    async def properties(self, _: web.Request) -> web.Response:
        return web.json_response({"default_generation_settings": {"n_ctx": self.context}, "total_slots": 1})

    async def models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "m", "meta": {"n_ctx_train": 32768}}]})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Its root."""
        app = web.Application()
        app.router.add_post("/completion", self.completion)
        app.router.add_get("/props", self.properties)
        app.router.add_get("/models", self.models)
        async with TestServer(app, handler_cancellation=True) as server:
            yield str(server.make_url("/")).rstrip("/")


def probabilities(token: int) -> dict[str, Any]:
    """Of a token: sure, but for the end."""
    likely = -1.0 if token == END else -0.1
    top = [{"id": i, "token": "", "bytes": [], "logprob": v} for i, v in ((token, likely), (token + 1, -3.0))]
    return {"id": token, "token": "", "bytes": [], "logprob": likely, "top_logprobs": top}
