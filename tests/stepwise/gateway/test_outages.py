"""Models' servers that nobody can reach: what a gateway answers, when, and how it comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from msgspec.structs import replace

from stepwise.backends.http.resilient import ResilientBackend
from stepwise.engine.engine import Engine
from stepwise.gateway import openai, responses
from stepwise.models.model import Model
from stepwise.models.pair import Pair
from stepwise.routers import LargeFirst
from tests.servers import free_port
from tests.stepwise.backends.chat_server import chat
from tests.stepwise.gateway import serving

CHAT = "/v1/chat/completions"
AGES = 1e6
"""Seconds: a test that waits for so long fails."""
BRISK = {"deadline_s": AGES, "handover_s": 0.02, "first_wait_s": 0.002, "max_wait_s": 0.005, "rest_s": AGES}
PATIENT, HURRIED = {**BRISK, "restart_s": AGES}, {**BRISK, "restart_s": 1e-9}
ROUTER = LargeFirst(1)


class Machines:
    """Where the two models are served, while anything is."""

    def __init__(self) -> None:
        self.ports = {"small": free_port(), "large": free_port()}
        self.servers: dict[str, TestServer] = {}
        self.busy: dict[str, int] = {}
        """How many more requests each model puts off."""

    async def start(self, *names: str) -> None:
        for name in names:
            app = web.Application()
            app.router.add_get("/v1/models", self.models)
            app.router.add_post("/v1/chat/completions", self.answer)
            self.servers[name] = TestServer(app, port=self.ports[name])
            await self.servers[name].start_server()

    async def models(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": name} for name in self.ports]})

    async def answer(self, request: web.Request) -> web.Response:
        name = (await request.json())["model"]
        if self.busy.get(name, 0):
            self.busy[name] -= 1
            return web.Response(status=429)
        answer = chat("The answer is 1.", model=name)
        answer["choices"][0]["stop_reason"] = None  # it is over
        return web.json_response(answer)

    async def stop(self) -> None:
        for server in self.servers.values():
            await server.close()

    def pair(self, patience: dict[str, float]) -> Pair:
        models = [
            Model(
                name, parameters=size,
                backend={"name": "chat", "base_url": f"http://127.0.0.1:{port}/v1", "patience": patience},
            )
            for size, (name, port) in enumerate(self.ports.items(), 1)
        ]  # fmt: skip
        return Pair("gone", tuple(models), prompt="{question}", separator="\n\n", max_step_tokens=64)


@asynccontextmanager
async def gateway(
    patience: dict[str, float], up: Collection[str] = ()
) -> AsyncIterator[tuple[Machines, httpx.AsyncClient, Engine]]:
    """A gateway over models of which only those are up that are named."""
    machines = Machines()
    await machines.start(*up)
    engine = await asyncio.to_thread(machines.pair(patience).engine, cost="tokens", failover=True)
    async with serving.client(serving.app_of(engine, ROUTER)) as http, asyncio.timeout(300):
        yield machines, http, engine
    await engine.close()
    await machines.stop()


def told(machines: Machines, *names: str) -> str:
    refused = "failed: Cannot connect to host (Connection refused)"
    urls = {name: f"http://127.0.0.1:{machines.ports[name]}/v1" for name in names}
    return "; ".join(f"{name} cannot be run: {url} {refused}" for name, url in urls.items()) + "."


async def all_gone(engine: Engine, *names: str) -> None:
    """Until somebody has found out."""
    backends: list[Any] = [engine.backends[name] for name in names]
    while not all(backend.presence.gone for backend in backends):
        await asyncio.sleep(0)


async def test_where_no_model_can_be_reached_the_request_is_answered_and_says_which() -> None:
    async with gateway(HURRIED) as (machines, http, _):
        for _n in range(3):
            answer = await http.post(CHAT, json=serving.chat("q"))
            error = answer.json()["error"]
            assert answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1
            assert error["code"] == "backend_unavailable"
            assert error["message"] == told(machines, "large", "small")
        named = await http.post(CHAT, json=serving.chat("q", "stepwise:small"))
        assert named.status_code == 503 and named.json()["error"]["message"] == told(machines, "small")


@pytest.mark.parametrize("first", ["small", "large"])
async def test_whichever_server_is_back_first_from_a_restart_answers_all_that_wait(first: str) -> None:
    async with gateway(PATIENT) as (machines, http, engine):
        waiting = [asyncio.create_task(http.post(CHAT, json=serving.chat("q"))) for _ in range(20)]
        await all_gone(engine, "small", "large")
        late = asyncio.create_task(http.post(CHAT, json=serving.chat("q")))
        await machines.start(first)
        answers = await asyncio.gather(*waiting, late)
    for answer in answers:
        choice = answer.json()["choices"][0]["stepwise"]
        assert answer.status_code == 200 and {step["model"] for step in choice["steps"]} == {first}
        assert bool(choice["degraded"]) is (first == "small")


async def test_while_one_server_may_restart_another_that_was_long_gone_is_welcome() -> None:
    async with gateway(PATIENT) as (machines, http, engine):
        small = engine.backends["small"]
        assert isinstance(small, ResilientBackend)
        small.patience = replace(small.patience, restart_s=1e-9)
        asked = asyncio.create_task(http.post(CHAT, json=serving.chat("q")))
        await all_gone(engine, "small", "large")
        await machines.start("small")
        assert (await asked).status_code == 200


async def test_a_model_that_was_named_waits_for_its_own_server() -> None:
    async with gateway(PATIENT, up=["small"]) as (machines, http, engine):
        asked = asyncio.create_task(http.post(CHAT, json=serving.chat("q", "stepwise:large")))
        await all_gone(engine, "large")
        await machines.start("large")
        answer = await asked
    steps = answer.json()["choices"][0]["stepwise"]["steps"]
    assert answer.status_code == 200 and {step["model"] for step in steps} == {"large"}


async def test_a_model_that_is_busy_is_waited_for_where_the_chosen_one_is_gone() -> None:
    async with gateway(PATIENT, up=["small"]) as (machines, http, _):
        machines.busy["small"] = 50
        answer = await http.post(CHAT, json=serving.chat("q"))
    assert answer.status_code == 200 and "small takes over" in answer.json()["stepwise"]["degraded"]


async def test_a_server_that_is_back_is_found_by_the_next_request() -> None:
    async with gateway({**HURRIED, "failures": 1}) as (machines, http, engine):
        burst = [http.post(CHAT, json=serving.chat("q")) for _ in range(10)]
        assert {answer.status_code for answer in await asyncio.gather(*burst)} == {503}
        await machines.start("small", "large")
        while True:  # what was asked last holds for a few milliseconds
            answer = await http.post(CHAT, json=serving.chat("q"))
            if answer.status_code == 200 and not answer.json()["stepwise"]["degraded"]:
                break
        large = engine.backends["large"]
        assert isinstance(large, ResilientBackend) and large.breaker.state == "closed"


async def test_ready_says_which_models_can_be_reached_without_any_traffic() -> None:
    async with gateway(HURRIED) as (machines, http, _):

        async def ready(*expected: Any) -> None:
            """Sooner or later; an answer of the servers holds for a few milliseconds."""
            while True:
                answer = await http.get("/ready")
                body = answer.json()
                if (answer.status_code, body["degraded"], *body["models"].values()) == expected:
                    assert body["ready"] is (answer.status_code == 200)
                    return

        await ready(503, True, "not answering", "not answering")
        assert (await http.get("/health")).status_code == 200
        assert 'breaker_state{model="large"} 3.0' in (await http.get("/metrics")).text
        await machines.start("large")
        await ready(200, True, "not answering", "ready")
        await machines.start("small")
        await ready(200, False, "ready", "ready")
        await machines.stop()
        await ready(503, True, "not answering", "not answering")


@pytest.mark.parametrize("path", [CHAT, "/v1/responses"])
async def test_a_stream_that_waits_is_kept_alive_and_ends_with_the_error(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (openai, responses):
        monkeypatch.setattr(module, "KEEP_ALIVE", 0.001)
    body = {"model": "stepwise", "stream": True}
    body |= {"input": "q"} if path == "/v1/responses" else serving.chat("q")
    async with gateway({**BRISK, "restart_s": 0.3}) as (machines, http, _):
        answer = await http.post(path, json=body)
        *before, last, end = answer.text.split("\n\n")
        assert answer.status_code == 200 and end == "" and "[DONE]" not in answer.text
        assert sum(line == ": keep-alive" for line in before) > 3
        error = json.loads(last.rpartition("data: ")[2])
        failure = error["response"]["error"] if path == "/v1/responses" else error["error"]
        assert failure["message"] == told(machines, "large", "small")
