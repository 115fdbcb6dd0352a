"""An Ollama that writes a fixed solution: the answers of its ``/api/generate`` in the form that it documents.

- A stop string and the end of the answer are both "stop", and neither is shown.
- Tokens without text of their own are counted, and have no probabilities.
- A token that comes thirty times in a row ends an answer that is not done and counts nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

END = ""


@dataclass
class OllamaServer:
    """Writes what of ``question`` and the tokens of ``solution`` follows a prompt.

    Attributes:
        counts: whether it says what it computed.
        blocks: whether it waits for ``go_on``.
    """

    question: str
    solution: Sequence[str]
    counts: bool = True
    blocks: bool = False
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    prompt_tokens: int = 0
    written_tokens: int = 0

    def follows(self, prompt: str) -> list[str]:
        if not (self.question + "".join(self.solution)).startswith(prompt):
            return [END]
        known, tokens = len(prompt) - len(self.question), []
        for token in self.solution:
            tokens += [token[known:]] if known < len(token) else []
            known = max(0, known - len(token))
        return [*tokens, END]

    async def generate(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        prompt, options = body["prompt"], body["options"]
        if len(prompt) >= options["num_ctx"]:
            return web.json_response({"error": "the input length exceeds the context length"}, status=400)
        self.prompt_tokens += len(prompt)
        try:
            if self.blocks:
                await self.go_on.wait()
        except asyncio.CancelledError:
            self.left.set()
            raise
        return web.json_response(self._answer(body["model"], prompt, options))

    def _answer(self, model: str, prompt: str, options: dict[str, Any]) -> dict[str, Any]:
        written, text, rows, reason = 0, "", list[dict[str, Any]](), "length"
        for token in self.follows(prompt)[: options["num_predict"]]:
            written += 1
            stop = next((stop for stop in options["stop"] or () if stop in text + token), None)
            shown = (text + token).partition(stop)[0] if stop else text + token
            rows += [probability(token)] if len(shown) > len(text) else []
            text = shown
            if stop or token == END:
                reason = "stop"
                break
        self.written_tokens += written
        counts = {"prompt_eval_count": len(prompt), "eval_count": written} if self.counts else {}
        return {
            "model": model, "created_at": "2026-01-01T00:00:00Z", "response": text, "done": True,
            "done_reason": reason, "total_duration": 1, "logprobs": rows, **counts,
        }  # fmt: skip

    async def models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "m:latest", "object": "model"}]})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Its root."""
        app = web.Application()
        app.router.add_post("/api/generate", self.generate)
        app.router.add_get("/v1/models", self.models)
        async with TestServer(app, handler_cancellation=True) as server:
            yield str(server.make_url("/")).rstrip("/")


def probability(token: str) -> dict[str, Any]:
    top = [{"token": token, "logprob": -0.1}, {"token": "?", "logprob": -3.0}]
    return {"token": token, "logprob": -0.1, "bytes": list(token.encode()), "top_logprobs": top}
