"""The app: refusals, failures, limits and accounts, over HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from typing import Any

import httpx
import pytest

from stepwise import load_router
from stepwise.backends.http.breaker import Breaker
from stepwise.calibration import OnlineThreshold
from stepwise.errors import BackendError, ConfigError
from stepwise.gateway import Keys, Limits, Spending, Tenant
from stepwise.gateway.keys import digest
from stepwise.gateway.knob import record_of
from tests.stepwise.gateway.serving import CONFIDENCE, app_of, chat, client, scope
from tests.worlds import engine

CHAT = "/v1/chat/completions"


async def refused(body: Any, path: str = CHAT, **options: Any) -> httpx.Response:
    async with client(app_of(**options)) as http:
        answer = await http.post(path, json=body)
        assert set(answer.json()["error"]) >= {"message", "type", "code", "param"}
        return answer


@pytest.mark.parametrize(
    "body, status, code",
    [
        (chat("1", "gpt-4o"), 404, "model_not_found"),
        (chat("1", tools=[{"type": "function"}]), 400, "invalid_request"),
        (chat("1", "stepwise:budget=0.3"), 400, "invalid_value"),
        (chat(" "), 400, "invalid_value"),
        (chat("1 " * 60_000), 400, "invalid_value"),
        ({"model": "stepwise"}, 400, "invalid_request"),
        ([1], 400, "invalid_request"),
        ("x", 400, "invalid_request"),
        ({"model": "stepwise", "prompt": [1, 2]}, 400, "invalid_request"),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
async def test_what_is_not_supported_is_refused_before_any_work(
    body: Any, status: int, code: str, streaming: bool
) -> None:
    world = engine()
    if streaming and isinstance(body, dict):
        body = {**body, "stream": True}
    answer = await refused(body, world=world)
    assert answer.status_code == status and answer.json()["error"]["code"] == code
    assert all(not backend.calls for backend in world.backends.values())  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "content, kind",
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"[" * 100_000, "application/json"),
        (b'{"model": "\\ud800", "messages": []}', "application/json"),
        (b'{"model": "stepwise", "messages": [{"role": "user", "content": "\\udfff"}]}', "application/json"),
        (b'{"model": "stepwise", "prompt": "1", "\\ud800": 1}', "application/json"),
        (json.dumps(chat("1")).encode(), "text/plain"),
    ],
)
async def test_bodies_that_are_no_request(content: bytes, kind: str) -> None:
    async with client(app_of()) as http:
        answer = await http.post(CHAT, content=content, headers={"content-type": kind})
        assert answer.status_code == 400 and answer.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_beyond_the_limit_is_not_read(declared: bool) -> None:
    async def parts() -> Any:
        for _ in range(100):
            yield b"x" * 1000

    async with client(app_of(limits=Limits(body=5000))) as http:
        answer = await http.post(CHAT, content=b"x" * 5001 if declared else parts())
        assert answer.status_code == 413 and "larger than 5000 bytes" in answer.text


async def test_wrong_places_and_methods() -> None:
    async with client(app_of()) as http:
        assert (await http.get("/v2/nothing")).json()["error"]["code"] == "not_found"
        assert (await http.get(CHAT)).status_code == 405


def failing(error: Exception, after: int = 0) -> Any:
    """The adders; the large one fails after some steps."""
    world, seen = engine(), []

    async def fail(_: str) -> None:
        seen.append(1)
        if len(seen) > after:
            raise error

    world.backends["large"]._before = fail  # type: ignore[attr-defined]
    return world


async def test_a_failure_before_the_first_byte_is_a_status() -> None:
    for body in (chat("1 7", "stepwise:large"), chat("1 7", "stepwise:large", stream=True)):
        answer = await refused(body, world=failing(BackendError("the large model is down.")))
        assert answer.status_code == 502 and answer.json()["error"]["message"] == "the large model is down."


def opened() -> Breaker:
    """A breaker that has seen too many failures."""
    breaker = Breaker(failures=1, rest_s=60.0)
    breaker.failed()
    return breaker


async def test_a_backend_that_is_left_alone_for_now_is_worth_another_try() -> None:
    world = failing(BackendError("the large model is left alone for now."))
    for backend in world.backends.values():
        backend.breaker = opened()
    answer = await refused(chat("7", "stepwise:large"), world=world)
    assert answer.status_code == 503 and answer.headers["retry-after"]
    async with client(app_of(world)) as http:
        assert (await http.get("/ready")).status_code == 503


async def test_a_failure_on_the_way_is_the_last_event() -> None:
    body = chat("1 7 2", "stepwise:large", stream=True)
    async with client(app_of(failing(BackendError("the large model is down."), after=2))) as http:
        answer = await http.post(CHAT, json=body)
        *before, last, rest = answer.text.split("\n\n")
        assert answer.status_code == 200 and rest == "" and "[DONE]" not in answer.text
        deltas = [json.loads(event.removeprefix("data: "))["choices"][0]["delta"] for event in before]
        assert "".join(delta.get("content", "") for delta in deltas) == "0 + 1 = 1.\n1 + 7 = 8.\n"
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "backend_failed"
    answer = await refused({**body, "stream": False}, world=failing(BackendError("down."), after=2))
    assert answer.status_code == 502


async def test_what_goes_wrong_inside_stays_inside(caplog: pytest.LogCaptureFixture) -> None:
    secret = "/secret/path of the server"
    answer = await refused(chat("7"), world=failing(RuntimeError(secret)))
    assert answer.status_code == 500 and answer.json()["error"]["code"] == "internal_error"
    assert secret not in answer.text and "Traceback" not in answer.text


async def test_a_router_that_is_wrong_is_the_servers_failure_and_in_its_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    answer = await refused(chat("7"), router=replace(CONFIDENCE, small="tiny"))
    assert answer.status_code == 500 and "tiny" not in answer.text
    assert "model must be one of small, large, not 'tiny'" in caplog.text
    with pytest.raises(ConfigError, match="router object has no 'name'"):
        app_of(router=object())  # type: ignore[arg-type]


def waiting() -> tuple[Any, asyncio.Event, asyncio.Event]:
    """The adders; the small one waits for a sign. With it: the sign, and whether it was cancelled."""
    world, sign, cancelled = engine(), asyncio.Event(), asyncio.Event()

    async def wait(_: str) -> None:
        try:
            await sign.wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    world.backends["small"]._before = wait  # type: ignore[attr-defined]
    return world, sign, cancelled


async def test_a_request_that_takes_too_long_is_stopped() -> None:
    world, _, cancelled = waiting()
    answer = await refused(chat("1"), world=world, limits=Limits(seconds=0.05))
    assert answer.status_code == 504 and answer.json()["error"]["code"] == "timeout" and cancelled.is_set()


async def test_a_full_server_says_when_to_come_back() -> None:
    world, sign, _ = waiting()
    app = app_of(world, limits=Limits(concurrency=1, queue=1))
    async with client(app) as http:
        first = asyncio.create_task(http.post(CHAT, json=chat("1")))
        second = asyncio.create_task(http.post(CHAT, json=chat("2")))
        while "waiting_chains 1.0" not in (await http.get("/metrics")).text:
            await asyncio.sleep(0)
        third = await http.post(CHAT, json=chat("3"))
        assert third.status_code == 429 and int(third.headers["retry-after"]) >= 1
        assert third.json()["error"]["code"] == "queue_full"
        sign.set()
        assert [(await task).status_code for task in (first, second)] == [200, 200]
        assert (await http.post(CHAT, json=chat("3"))).status_code == 200


KEYS = Keys([Tenant("alice", digest("alice's key")), Tenant("bob", digest("bob's key"), spend=50.0)])
ALICE, BOB = ({"Authorization": f"Bearer {name}'s key"} for name in ("alice", "bob"))


async def test_every_endpoint_that_costs_or_tells_needs_a_key() -> None:
    async with client(app_of(keys=KEYS)) as http:
        asking = [(CHAT, chat("1")), ("/v1/completions", {"model": "stepwise", "prompt": "1"})]
        asking.append(("/stepwise/estimate", {"question": "1"}))
        for path, body in asking:
            answer = await http.post(path, json=body)
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        for path in ("/v1/models", "/stepwise/server", "/stepwise/recent"):
            assert (await http.get(path)).status_code == 401
            assert (await http.get(path, headers=ALICE)).status_code == 200
        for path in ("/health", "/ready", "/metrics", "/"):
            assert (await http.get(path)).status_code == 200


async def test_a_key_s_money_is_spent_and_its_requests_are_its_own() -> None:
    async with client(app_of(keys=KEYS)) as http:
        body = chat("1 2 3", "stepwise:small")  # costs more than 50
        assert (await http.post(CHAT, json=body, headers=BOB)).status_code == 200
        again = await http.post(CHAT, json=body, headers=BOB)
        assert again.status_code == 429 and again.json()["error"]["code"] == "spend_limit"
        assert 0 < int(again.headers["retry-after"]) <= 86_401
        assert (await http.post(CHAT, json=body, headers=ALICE)).status_code == 200
        for headers in (ALICE, BOB):
            recent = (await http.get("/stepwise/recent", headers=headers)).json()["recent"]
            assert len(recent) == 1 and recent[0]["writers"] == ["small"] * 4


async def test_a_burst_spends_no_more_than_what_runs_at_once() -> None:
    async with client(app_of(keys=KEYS, limits=Limits(concurrency=2, queue=100))) as http:
        body = chat("1 2 3", "stepwise:small")  # one costs more than 50
        answers = await asyncio.gather(*(http.post(CHAT, json=body, headers=BOB) for _ in range(40)))
    statuses = [answer.status_code for answer in answers]
    assert 1 <= statuses.count(200) <= 2 and set(statuses) == {200, 429}


async def test_a_chain_that_is_timed_out_is_charged() -> None:
    world: Any = engine()
    calls: list[int] = []

    async def stall(_: str) -> None:
        calls.append(1)
        if len(calls) > 1:
            await asyncio.Event().wait()

    world.backends["small"]._before = stall
    keys = Keys([Tenant("bob", digest("bob's key"), spend=30.0)])
    async with client(app_of(world, keys=keys, limits=Limits(seconds=0.2))) as http:
        body = chat("1 2 3 4", "stepwise:small")
        assert (await http.post(CHAT, json=body, headers=BOB)).status_code == 504
        recent = (await http.get("/stepwise/recent", headers=BOB)).json()["recent"]
        assert recent[0]["outcome"] == "cancelled" and recent[0]["cost"] > 30
        assert (await http.post(CHAT, json=body, headers=BOB)).json()["error"]["code"] == "spend_limit"


@pytest.mark.parametrize("asked_for", [False, True])
async def test_prompts_are_logged_only_when_asked_for(
    asked_for: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "stepwise.gateway")
    async with client(app_of(log_prompts=asked_for)) as http:
        await http.post(CHAT, json=chat("1 7 2"))
        recent = (await http.get("/stepwise/recent")).text
    lines = [json.loads(line) for line in caplog.messages]
    chain = next(line for line in lines if line["event"] == "chain")
    request = next(line for line in lines if line["event"] == "request")
    assert chain["writers"] == ["small", "large", "small", "small"] and chain["outcome"] == "finished"
    assert request["status"] == 200 and request["path"] == CHAT
    for place in (caplog.text, recent):
        assert ("1 7 2" in place) == ("8 + 2" in place) == asked_for


async def test_the_threshold_learns_from_the_default_s_chains_alone() -> None:
    policy = load_router("nano-ppo", budget=0.4)
    online = OnlineThreshold(record_of(policy), 0.4)
    async with client(app_of(router=policy, spending=Spending(online))) as http:
        for model in ("stepwise:small", "stepwise:threshold=1", "stepwise:large"):
            assert (await http.post(CHAT, json=chat("1 7", model))).status_code == 200
        assert online.count == 0
        for cut in ({"max_tokens": 5}, {"stop": "="}):
            assert (await http.post(CHAT, json=chat("1 7", **cut))).status_code == 200
        assert online.count == 0, "what a part of a chain costs says nothing of whole ones"
        answer = await http.post(CHAT, json=chat("1 7", max_tokens=500))
        assert online.count == 1
        metrics = (await http.get("/metrics")).text
        assert "stepwise_online_updates 1.0" in metrics and "stepwise_online_target 0.4" in metrics
        told = answer.json()["choices"][0]["stepwise"]
        assert told["threshold"] != pytest.approx(online.threshold)


async def test_metrics_add_up() -> None:
    world = engine()
    world.backends["large"].breaker = opened()  # type: ignore[attr-defined]
    async with client(app_of(world)) as http:
        answers = [(await http.post(CHAT, json=chat("1 7 2"))).json() for _ in range(3)]
        await http.post(CHAT, json=chat("1", "nothing"))
        lines = (await http.get("/metrics")).text.splitlines()
        ready = await http.get("/ready")
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    value = {name: float(number) for name, number in values.items()}
    assert (
        value['stepwise_steps_total{model="small"}'] == 9
        and value['stepwise_steps_total{model="large"}'] == 3
    )
    assert value["stepwise_switches_total"] == 6
    assert value['stepwise_chains_total{outcome="finished",router="confidence"}'] == 3
    assert value['stepwise_errors_total{code="model_not_found"}'] == 1
    assert value["stepwise_cost_total"] == sum(answer["stepwise"]["cost"] for answer in answers)
    alone = sum(answer["stepwise"]["cost_large_only"] for answer in answers)
    assert value["stepwise_estimated_saving"] == pytest.approx(1 - value["stepwise_cost_total"] / alone)
    kinds = {
        kind: sum(value[f'stepwise_tokens_total{{kind="{kind}",model="{m}"}}'] for m in ("small", "large"))
        for kind in ("prompt", "cached")
    }
    assert value["stepwise_cached_share"] == pytest.approx(kinds["cached"] / kinds["prompt"])
    assert value['stepwise_breaker_state{model="large"}'] == 2
    assert ready.status_code == 200 and ready.json()["models"] == {"small": "ready", "large": "failing"}


async def test_two_gateways_in_a_process_do_not_mix() -> None:
    async with client(app_of()) as one, client(app_of()) as other:
        await one.post(CHAT, json=chat("1"))
        assert "stepwise_steps_total{" in (await one.get("/metrics")).text
        assert "stepwise_steps_total{" not in (await other.get("/metrics")).text


async def test_an_estimate_before_the_start() -> None:
    async with client(app_of(estimator=scope())) as http:
        assert (await http.get("/stepwise/server")).json()["estimates"]
        answer = await http.post("/stepwise/estimate", json={"question": "4 5"})
        small, large = answer.json()["estimates"]
        assert (small["model"], large["model"]) == ("small", "large")
        assert 0.2 < small["p_correct"] < large["p_correct"] <= 1 and small["tokens"] == pytest.approx(40)
        low, high = small["p_interval"]
        assert 0 <= low <= small["p_correct"] <= high <= 1 and small["outside"] is False
        assert small["interval"][0] <= small["tokens"] <= small["interval"][1]
    assert (await refused({"question": "1"}, "/stepwise/estimate")).json()["error"]["code"] == "no_estimator"
