"""HTTP's own business: bodies within a limit, clients that go away, streams of events, a log line each."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar
from uuid import uuid4

from starlette.requests import ClientDisconnect, Request
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stepwise.gateway.failures import Refusal
from stepwise.gateway.log import log
from stepwise.gateway.metrics import GatewayMetrics

T = TypeVar("T")
SLOWEST_BODY = 30.0
"""Seconds that a body may take to arrive."""


class Gone(Exception):
    """The client has closed the connection."""


class Bodies:
    """Reads a request's body before the app sees it, and refuses one that is too large or too slow."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(SLOWEST_BODY):
                body = await self._read(Request(scope, receive))
        except TimeoutError:
            refused = Refusal(408, f"the body did not arrive within {SLOWEST_BODY:g} s.", code="timeout")
            await refused.response()(scope, receive, send)
        except Refusal as refused:
            await refused.response()(scope, receive, send)
        except ClientDisconnect:
            return
        else:
            await self._app(scope, _replay(body, receive), send)

    async def _read(self, request: Request) -> bytes:
        declared = request.headers.get("content-length", "")
        body = bytearray()
        async for part in request.stream():
            body += part
            if max(len(body), int(declared) if declared.isdecimal() else 0) > self._limit:
                raise Refusal(413, f"the body is larger than {self._limit} bytes.", code="body_too_large")
        return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed


class Observed:
    """Gives every request an id, and writes a line and a metric about it when it is over."""

    def __init__(self, app: ASGIApp, metrics: GatewayMetrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status, identity = time.perf_counter(), 499, uuid4().hex

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", identity.encode())]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            seconds = time.perf_counter() - begun
            endpoint = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(endpoint, str(status)).inc()
            self._metrics.seconds.labels(endpoint).observe(seconds)
            line = {"method": scope["method"], "path": scope["path"], "status": status}
            log("request", id=identity, **line, seconds=round(seconds, 4))


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

    def __init__(self, events: AsyncIterator[bytes], close: Callable[[], Awaitable[None]]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
        self._close = close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._close()


def event(body: Any) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"
