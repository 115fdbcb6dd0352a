"""Strangers who hold connections: silent, slow, endless, or deaf."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from stepwise.gateway import entrance, server
from stepwise.gateway.connections import Bounds
from tests.stepwise.gateway.serving import app_of, serving

SOON = 0.5
HEAD = b"GET /health HTTP/1.1\r\nHost: x\r\n"
UNREAD = HEAD + b"Content-Length: 100000\r\n\r\n"
PATIENCE = 20.0
"""Seconds after which a test gives up."""


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as raw:
        yield raw


def answered(raw: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    heard = b""
    try:
        while part := raw.recv(65_536):
            heard += part
    except ConnectionResetError:
        pass
    return heard


def ends_with(raw: socket.socket, end: bytes) -> bool:
    """Whether so much comes before the other side closes."""
    heard = b""
    while not heard.endswith(end):
        part = raw.recv(65_536)
        if not part:
            return False
        heard += part
    return True


def dribbled(raw: socket.socket) -> bytes:
    """What comes until the other side closes, while a byte is sent whenever the line is quiet."""
    heard, until = b"", time.monotonic() + PATIENCE
    try:
        while time.monotonic() < until:
            if not select.select([raw], [], [], SOON / 5)[0]:
                raw.sendall(b"a")
            elif part := raw.recv(65_536):
                heard += part
            else:
                return heard
    except (ConnectionResetError, BrokenPipeError):
        return heard
    raise AssertionError("the connection stays open")


@pytest.mark.parametrize("begun", [b"", HEAD, HEAD + b"X: a", HEAD + b"\r\n" + HEAD])
def test_a_connection_without_a_whole_request_is_closed(begun: bytes) -> None:
    with serving(app_of(), bounds=Bounds(100, head_s=SOON)) as url, connected(url) as raw:
        raw.sendall(begun)
        assert answered(raw).count(b"200 OK") == begun.count(b"\r\n\r\n")


@pytest.mark.parametrize("begun", [HEAD + b"X: ", UNREAD])
def test_bytes_that_trickle_in_do_not_hold_a_connection(begun: bytes) -> None:
    """In a head, and in a body that nobody waits for any more."""
    with serving(app_of(), bounds=Bounds(100, head_s=SOON)) as url, connected(url) as raw:
        raw.sendall(begun)
        assert dribbled(raw).startswith(b"HTTP/1.1 200" if begun == UNREAD else b"")


def test_a_body_that_trickles_in_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrance, "SLOWEST_BODY", SOON)
    with serving(app_of(), bounds=Bounds(100, head_s=SOON)) as url, connected(url) as raw:
        raw.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        heard = dribbled(raw)
        assert heard.startswith(b"HTTP/1.1 408") and b"did not arrive within 0.5 s" in heard


def test_a_head_without_end_is_refused() -> None:
    with serving(app_of()) as url, connected(url) as raw:
        raw.sendall(HEAD + b"".join(b"X-%d: %s\r\n" % (i, b"a" * 1000) for i in range(70)))
        heard = answered(raw)
        assert heard.startswith(b"HTTP/1.1 400") and b"head is larger than 65536 bytes" in heard
        with connected(url) as other:
            other.sendall(HEAD + b"X: " + b"a" * 60_000 + b"\r\nConnection: close\r\n\r\n")
            assert answered(other).startswith(b"HTTP/1.1 200")


def test_whoever_holds_many_connections_closes_their_own() -> None:
    with serving(app_of(), bounds=Bounds(3)) as url, connected(url) as first, connected(url) as second:
        assert httpx.get(f"{url}/health").status_code == 200
        with connected(url) as third, connected(url) as fourth:
            assert answered(first) == b""
            for open_one in (second, third, fourth):
                open_one.sendall(HEAD + b"Connection: close\r\n\r\n")
                assert answered(open_one).startswith(b"HTTP/1.1 200")


def test_an_answer_that_nobody_reads_is_given_up() -> None:
    gone = threading.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError

        async def write() -> None:
            await send({"type": "http.response.start", "status": 200})
            while True:
                await send({"type": "http.response.body", "body": b"a" * 65_536, "more_body": True})

        writing = asyncio.create_task(write())
        while (await receive())["type"] != "http.disconnect":
            pass
        writing.cancel()
        gone.set()

    with serving(endless, bounds=Bounds(100, unread_s=SOON)) as url, connected(url) as raw:
        raw.sendall(HEAD + b"\r\n")
        assert gone.wait(PATIENCE)


def test_an_answer_may_take_longer_than_its_request() -> None:
    """Also on a connection whose request before was answered before all of it was there."""

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await asyncio.sleep(2 * SOON if scope["path"] == "/slow" else 0)
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    with serving(slow, bounds=Bounds(100, head_s=SOON)) as url, connected(url) as raw:
        raw.sendall(HEAD + b"Content-Length: 3\r\n\r\n")
        assert ends_with(raw, b"ok")
        raw.sendall(b"abc" + HEAD.replace(b"health", b"slow") + b"\r\n")
        assert ends_with(raw, b"ok")


@pytest.mark.parametrize("limit, most", [(1024, 576), (500, 384), (-1, 65_536)])
def test_clients_leave_open_files_for_the_models(
    limit: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (limit, limit))
    assert server.most_connections(384) == most
