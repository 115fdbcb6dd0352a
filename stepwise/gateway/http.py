"""HTTP's own business: clients that go away, streams of events, a log line each."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stepwise.engine.backend import TRACE
from stepwise.gateway.log import log
from stepwise.gateway.metrics import GatewayMetrics
from stepwise.gateway.tracing import trace_of

T = TypeVar("T")
KEEP_ALIVE = 15.0
"""Seconds of silence after which a stream says that it lives. Load balancers cut at 30 or 60."""
REQUEST_IDS = (b"x-request-id", b"x-client-request-id")


class Gone(Exception):
    """The client has closed the connection."""


class Observed:
    """Gives every request an id, its own where it brings one, and writes a line and a metric about it when it
    is over."""

    def __init__(self, app: ASGIApp, metrics: GatewayMetrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 499
        given = {name: value for name, value in scope["headers"] if name in REQUEST_IDS and _is_id(value)}
        ids = {b"x-request-id": uuid4().hex.encode(), **given}
        TRACE.set(trace_of(scope["headers"]))
        line = {"method": scope["method"], "path": scope["path"]}

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *ids.items()]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            seconds = time.perf_counter() - begun
            endpoint = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(endpoint, str(status)).inc()
            self._metrics.seconds.labels(endpoint).observe(seconds)
            identity = ids[b"x-request-id"].decode()
            log("request", id=identity, **line, status=status, seconds=round(seconds, 4))


def _is_id(value: bytes) -> bool:
    return re.fullmatch(rb"[\x21-\x7e]{1,128}", value) is not None


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """Wait for ``work`` as long as the client does.

    Raises:
        Gone: if the client leaves first; the work is cancelled.
    """
    task = asyncio.ensure_future(work)
    leaving = asyncio.create_task(_left(request))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Gone
        return task.result()
    finally:
        leaving.cancel()
        task.cancel()
        await asyncio.wait({task, leaving})


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class EventStream(StreamingResponse):
    """Server-sent events. ``close`` runs when they are over, however that comes about."""

    def __init__(
        self, events: AsyncIterator[bytes], close: Callable[[], Awaitable[None]], headers: Mapping[str, str]
    ) -> None:
        headers = {"Cache-Control": "no-cache", **headers}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._close()


def event(body: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


ALIVE = b": keep-alive\n\n"
"""A comment: it tells clients nothing, and everything between that the connection is in use."""
