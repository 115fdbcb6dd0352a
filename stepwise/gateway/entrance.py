"""What a request passes before the app sees it: the host it names, its path, its key, the size of its body.

Nothing of a body is read before the key is known to be good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stepwise.gateway.failures import Refusal, printable
from stepwise.gateway.keys import Keys, Tenant

SLOWEST_BODY = 30.0
"""Seconds that a body may take to arrive."""
READING = ("GET", "HEAD")
OPEN = ("/", "/health", "/ready", "/metrics", "/openapi.json")
"""What anyone may read, beside the page's own files."""


class Hosts:
    """Lets in requests that name one of these hosts. A page of a stranger whose name was made to lead to this
    machine (DNS rebinding) names another. Nor may a page of another origin ask, which could not read the
    answer and would have it written all the same, unless it is one of ``origins`` ("*" for all)."""

    def __init__(self, app: ASGIApp, hosts: Collection[str], origins: Collection[str] = ()) -> None:
        self._app, self._hosts, self._origins = app, hosts, origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = self._refusal(Headers(scope=scope)) if scope["type"] == "http" else None
        await (self._app if refused is None else refused.response())(scope, receive, send)

    def _refusal(self, headers: Headers) -> Refusal | None:
        names, host, origin = ", ".join(self._hosts), headers.get("host", ""), headers.get("origin")
        if _host(f"//{host}") not in self._hosts:
            message = f"this server is not {printable(host)!r}; without keys it answers to {names} only."
            return Refusal(403, message, code="wrong_host")
        known = origin is None or origin in self._origins or "*" in self._origins
        if known or _host(origin or "") in self._hosts:
            return None
        message = f"a page of {printable(origin or '')!r} may not ask here; --cors says which others may."
        return Refusal(403, message, code="wrong_origin")


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


class Paths:
    """Takes a path with a slash behind it for the one without, and answers HEAD as GET with no body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["path"] = scope["path"].rstrip("/") or "/"
            if scope["method"] == "HEAD":
                scope["method"], send = "GET", _without_body(send)
        await self._app(scope, receive, send)


def _without_body(send: Send) -> Send:
    async def bare(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return bare


class Authenticated:
    """Asks for a key, and leaves its tenant with the request (`tenant_of`)."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app, self._keys = app, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _open(scope):
            try:
                tenant = self._keys.find(Headers(scope=scope).get("authorization"))
            except Refusal as refused:
                await refused.response()(scope, receive, send)
                return
            scope.setdefault("state", {})["tenant"] = tenant
        await self._app(scope, receive, send)


def _open(scope: Scope) -> bool:
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    return scope["method"] in READING and (path in OPEN or path.startswith("/static/"))


def tenant_of(request: Request) -> Tenant:
    """Who asks."""
    tenant: Tenant = request.state.tenant
    return tenant


class Bodies:
    """Reads a request's body before the app sees it, and refuses one that is too large or too slow."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in READING:
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
