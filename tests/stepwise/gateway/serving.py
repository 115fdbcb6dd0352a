"""Gateways for tests: in process, and on a real port of this machine."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from stepwise.engine.engine import Engine
from stepwise.gateway import create_app
from stepwise.gateway.connections import Bounds, protocol
from stepwise.routers import Confidence, ThresholdRouter
from stepwise.scope import AnchorSet, Fingerprint, FingerprintStore, Scope
from stepwise.types import Problem, Router
from tests.worlds import engine

CONFIDENCE = ThresholdRouter(Confidence("min"), 0.5, "confidence")


def scope(store: str = ":memory:") -> Scope:
    """SCOPE that knows the adders: the small one gets half of its sums right, the large one all."""
    sums = AnchorSet([Problem(f"s{i}", f"{i} {i + 1}", str(2 * i + 1)) for i in range(20)])
    fingerprints = FingerprintStore(store)
    for model in ("small", "large"):
        right = [int(model == "large" or i % 2) for i in range(20)]
        names = [problem.id for problem in sums.problems]
        fingerprints.add(Fingerprint(model=model, anchor_ids=names, correct=right, tokens=[40] * 20))
    return Scope(anchors=sums, fingerprints=fingerprints)


def app_of(world: Engine | None = None, router: Router = CONFIDENCE, **options: Any) -> FastAPI:
    """A gateway over the adders, or another engine."""
    return create_app(world or engine(), {"confidence": router}, **options)


def client(app: FastAPI) -> httpx.AsyncClient:
    """Talks to the app in this event loop; its failures are answers, as they are over a socket."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://gateway")


def chat(question: str, model: str = "stepwise", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": question}], **more}


@contextmanager
def serving(
    app: ASGIApp,
    run: Callable[[Coroutine[Any, Any, None]], None] = asyncio.run,
    bounds: Bounds | None = None,
) -> Iterator[str]:
    """The app on a free local port, in a thread and an event loop of its own; ``run`` may be an engine's."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(
            app, http=protocol(bounds or Bounds(1000)), ws="none", log_config=None, access_log=False,
            timeout_graceful_shutdown=5,
        )
    )  # fmt: skip
    thread = threading.Thread(target=lambda: run(server.serve([listening])), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"  # connections wait in the backlog
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        listening.close()
