"""Whether servers can be reached: who asks, how often, and what counts."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from stepwise.backends.http import endpoint
from stepwise.backends.http.endpoint import Endpoint
from stepwise.backends.http.presence import Presence
from stepwise.backends.http.resilient import Patience, resilient
from stepwise.backends.scripted import ScriptedBackend
from stepwise.engine.backend import WAIT
from stepwise.errors import BackendError
from tests.servers import free_port

GONE = BackendError("nobody listens.", retryable=True)


class Server:
    """Is there or not, and counts how often it was asked and how often it came back."""

    def __init__(self, up: bool, every_s: float = 1.0) -> None:
        self.up, self.now = up, 100.0
        self.asked = self.returned = 0
        self.presence = Presence(self.ask, self.back, every_s, lambda: self.now)

    async def ask(self) -> BackendError | None:
        self.asked += 1
        await asyncio.sleep(0)
        return None if self.up else GONE

    def back(self) -> None:
        self.returned += 1


async def test_however_many_want_to_know_a_server_is_asked_once() -> None:
    server = Server(up=False)
    there = [asyncio.create_task(server.presence.there()) for _ in range(50)]
    await asyncio.sleep(0)
    there[0].cancel()  # whoever leaves takes the answer from nobody
    assert await asyncio.gather(*there[1:]) == [False] * 49 and server.asked == 1
    server.up = True
    assert not await server.presence.there() and server.asked == 1, "an answer holds for a while"
    server.now += 1.0
    assert await server.presence.there() and server.asked == 2


async def test_how_long_it_has_been_gone_counts_from_the_first_time_that_nobody_was_there() -> None:
    server = Server(up=False)
    assert server.presence.gone_s == 0.0 and not server.presence.gone
    for _ in range(3):
        server.now += 5.0
        await server.presence.there()
    assert server.presence.gone_s == 10.0 and server.presence.reason is GONE
    server.presence.found()
    server.presence.found()
    assert server.presence.gone_s == 0.0 and server.returned == 1


async def test_calls_that_were_refused_before_the_server_was_back_open_no_breaker() -> None:
    answers = iter([GONE])

    async def ask() -> BackendError | None:
        return next(answers, None)

    async def refused() -> str:
        raise GONE

    patience = Patience(failures=1, handover_s=0.05, first_wait_s=1e-6, max_wait_s=1e-6)
    backend = resilient(ScriptedBackend(str), "m", patience=patience, ask=ask)
    WAIT.set("handover")
    with pytest.raises(BackendError, match="nobody listens"):
        await backend.attempt(refused)
    states = [backend.breaker.state]
    with pytest.raises(BackendError, match="nobody listens"):
        await backend.attempt(refused)
    assert [*states, backend.breaker.state] == ["closed", "open"], "then it was there all the time"
    assert backend.presence.returns == 1


async def test_a_restart_is_waited_for_as_long_as_one_may_take() -> None:
    server, seconds = Server(up=False), count()
    presence = Presence(server.ask, server.back, 1e-6, lambda: float(next(seconds)))
    assert not await presence.back(30.0)
    asked = server.asked
    assert asked > 3 and not await presence.back(30.0)
    assert server.asked == asked + 1, "the time has been spent: once to see, and no more waiting"
    coming = asyncio.create_task(presence.back(1e9))
    while server.asked < asked + 10:
        await asyncio.sleep(0)
    server.up = True
    assert await coming and server.returned == 1


@pytest.mark.parametrize(
    ("status", "there"), [(200, True), (401, True), (404, True), (500, True), (502, False), (503, False)]
)
async def test_any_answer_is_one_but_that_of_a_proxy_without_a_server(status: int, there: bool) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status)

    app = web.Application()
    app.router.add_get("/v1/models", answer)
    async with TestServer(app) as server:
        asked = Endpoint(str(server.make_url("/v1")))
        reason = await asked.absence("/models")
        await asked.close()
    assert (reason is None) is there and (there or f"answered {status}" in str(reason))


async def test_a_slow_server_is_there_and_a_port_without_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "PROBE_S", 0.05)

    async def never(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    app = web.Application()
    app.router.add_get("/v1/models", never)
    async with TestServer(app) as server:
        slow = Endpoint(str(server.make_url("/v1")))
        assert await slow.absence("/models") is None
        await slow.close()
        assert "closed" in str(await slow.absence("/models"))
    nobody = Endpoint(f"http://127.0.0.1:{free_port()}/v1")
    assert "Cannot connect to host (Connection refused)" in str(await nobody.absence("/models"))
    await nobody.close()
