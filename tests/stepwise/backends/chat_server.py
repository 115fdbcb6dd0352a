"""A chat server in this process that answers what a test tells it to, and keeps what it was asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from stepwise.engine.engine import Engine
from stepwise.models.model import Model
from stepwise.models.pair import Pair

QUICK = {"deadline_s": 0.3, "handover_s": 0.05, "call_s": 5.0, "first_wait_s": 0.01, "max_wait_s": 0.02}

Answer = Callable[[dict[str, Any]], Any]
"""From a request's body to what is answered: a document, bytes, or a whole response."""


class Upstream:
    """What was asked, and where."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""

    async def get(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": name} for name in ("m", "small", "large")]})

    async def post(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.json())
        self.headers.append(dict(request.headers))
        answer = self.answer(self.bodies[-1])
        if isinstance(answer, web.StreamResponse):
            return answer
        return web.Response(body=answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    def model(self, name: str = "m", backend: str = "chat", **options: Any) -> Model:
        patience = options.pop("patience", QUICK)
        settings = {"name": backend, "base_url": self.url, "patience": patience, **options}
        return Model(name, parameters=1, backend=settings)

    def pair(self, *models: Model, **changes: Any) -> Pair:
        settings = {"prompt": "{question}", "separator": "\n\n", "max_step_tokens": 64, **changes}
        return Pair("chat", models or (self.model(),), **settings)

    async def engine(self, *models: Model, **changes: Any) -> Engine:
        """Opened in a thread: a backend asks for the server's models before it is there."""
        return await asyncio.to_thread(lambda: self.pair(*models, **changes).engine(cost="tokens"))


@asynccontextmanager
async def upstream(answer: Answer) -> AsyncIterator[Upstream]:
    served = Upstream(answer)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", served.post)
    app.router.add_post("/v1/completions", served.post)
    app.router.add_get("/v1/models", served.get)
    async with TestServer(app) as server:
        served.url = str(server.make_url("/v1"))
        yield served


def chat(
    content: Any, finish: Any = "stop", prompt: int = 7, completion: int = 5, **more: Any
) -> dict[str, Any]:
    """An answer in OpenAI's shape."""
    choice = {"message": {"role": "assistant", "content": content}, "finish_reason": finish}
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    return {"model": "m", "choices": [choice], "usage": usage, **more}
