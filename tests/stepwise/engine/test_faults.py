"""Trouble, with real processes: servers that die or misbehave, and runs that are killed."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from stepwise.backends.http.breaker import Breaker
from stepwise.backends.http.resilient import resilient
from stepwise.backends.scripted import ScriptedBackend
from stepwise.engine.cost import Tokens
from stepwise.engine.engine import Engine
from stepwise.engine.solution import Event
from stepwise.engine.stop_rules import StepRule
from stepwise.errors import BackendError, ConfigError
from stepwise.evaluation.rows import Row, read_rows
from stepwise.evaluation.run import evaluate
from stepwise.models.model import Model
from stepwise.models.pair import Pair
from stepwise.routers import Always, Confidence, LargeFirst, ThresholdRouter
from stepwise.routers.judged import ProcessReward
from stepwise.types import Problem, Router, Trace, Usage
from stepwise.verify import is_correct
from tests.characters import save_tokenizer
from tests.killed_run import CONCURRENCY, CONTENDERS, PROBLEMS
from tests.worlds import Crowd, adder, problem, writers
from tests.worlds import engine as world

QUICK = {"deadline_s": 20.0, "call_s": 1.0, "first_wait_s": 0.02, "max_wait_s": 0.2}
HASTY = QUICK | {"deadline_s": 0.3, "failures": 3, "rest_s": 3600.0}
ROUTER = ThresholdRouter(Confidence("min"), 0.5, "confidence")


def until(ready: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.002)


@dataclass
class Served:
    """A server process that can be killed and started again on the same port."""

    port: int
    log: Path
    rate: float = 0.0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.faulty_server", str(self.port), str(self.log), str(self.rate)]
        self.process = subprocess.Popen(command)
        until(self.answers)

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def ask(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", data, timeout=10) as answer:
            return json.load(answer)

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    served = Served(free_port(), tmp_path / "log.jsonl")
    served.start()
    yield served
    served.kill()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tokenizer(tmp_path_factory.mktemp("characters")))


def pool(server: Served, tokenizer: str, **patience: float) -> Pair:
    backend = {
        "name": "vllm-server",
        "base_url": f"http://127.0.0.1:{server.port}/v1",
        "tokenizer": tokenizer,
        "patience": patience,
    }
    models = [Model(name, parameters=1, backend=backend) for name in ("small", "large")]
    return Pair("served", tuple(models), prompt="{question}\n", max_step_tokens=64)


def in_process() -> Engine:
    return world(cost=Tokens())


async def solve_all(
    engine: Engine, problems: list[Problem], concurrency: int = 8, router: Router = ROUTER
) -> dict[str, Trace]:
    traces = engine.solve_many(problems, router, concurrency=concurrency)
    return {trace.problem.id: trace async for trace in traces}


@pytest.mark.parametrize("lookahead", [False, True])
async def test_models_behind_http_write_what_they_write_in_process(
    server: Served, tokenizer: str, lookahead: bool
) -> None:
    engine = pool(server, tokenizer).engine(cost="tokens", lookahead=lookahead)
    for numbers in [(1, 2, 3), (7, 8), (9, 1, 9)]:
        ours = await engine.solve(problem(*numbers), ROUTER)
        theirs = await in_process().solve(problem(*numbers), ROUTER)
        assert (ours.text, ours.stop, writers(ours)) == (theirs.text, theirs.stop, writers(theirs))
        if not lookahead:
            assert ours.usage == theirs.usage
    await engine.close()


@pytest.mark.parametrize(
    "fault", ["429", "500", "cut", "garbage", "empty", "never", "429 429 500", "cut garbage empty"]
)
async def test_what_passes_is_tried_again(server: Served, tokenizer: str, fault: str) -> None:
    engine = pool(server, tokenizer, **QUICK).engine()
    server.ask("/faults", fault.split())
    began = time.monotonic()
    trace = await engine.solve(problem(1, 2, 3), ROUTER)
    assert trace.stop == "answered" and is_correct(trace)
    if fault == "429":
        assert time.monotonic() - began >= 0.3  # as long as Retry-After asked for
    await engine.close()


async def test_what_a_server_refuses_is_not_charged_to_who_listens(server: Served, tokenizer: str) -> None:
    engine = pool(server, tokenizer, **QUICK).engine()
    whole = await engine.solve(problem(1, 2, 3), Always("large"))
    server.ask("/faults", ["500", "429", "500"])
    heard: list[Event] = []
    trace = await engine.solve(problem(1, 2, 3), Always("large")).finish(heard.append)
    assert len(heard) > 2 * len(trace.steps)
    assert trace.text == whole.text and trace.usage["large"].prompt == whole.usage["large"].prompt
    await engine.close()


async def test_a_stream_that_is_cut_goes_on_where_it_broke_off(server: Served, tokenizer: str) -> None:
    engine = pool(server, tokenizer, **QUICK).engine(lookahead=True)
    server.ask("/faults", ["cut mid-stream", "", "cut mid-stream"])
    trace = await engine.solve(problem(1, 2, 3), Always("large"))
    assert (
        is_correct(trace) and trace.text == (await in_process().solve(problem(1, 2, 3), Always("large"))).text
    )
    assert trace.usage["large"].prompt > len("1 2 3\n")  # read again, and charged for
    await engine.close()


@pytest.mark.parametrize(
    ("fault", "stop", "sentence"),
    [
        ("name", "error", "answered as 'another', asked for 'small'"),
        ("overflow", "context", "maximum context length"),
    ],
)
async def test_what_does_not_pass_is_recorded_at_once(
    server: Served, tokenizer: str, fault: str, stop: str, sentence: str
) -> None:
    engine = pool(server, tokenizer, **QUICK).engine()
    before = server.ask("/counters")["requests"]
    server.ask("/faults", [fault])
    trace = await engine.solve(problem(1, 2), ROUTER)
    assert trace.stop == stop and sentence in str(trace.error)
    assert server.ask("/counters")["requests"] == before + 1
    assert is_correct(await engine.solve(problem(1, 2), ROUTER))
    await engine.close()


@pytest.mark.parametrize("fault", ["empty", "never", "500"])
async def test_a_fault_without_end_ends_at_the_deadline_and_opens_the_breaker(
    server: Served, tokenizer: str, fault: str
) -> None:
    engine = pool(server, tokenizer, **{**HASTY, "call_s": 0.1}).engine()
    server.ask("/faults", [fault] * 1000)
    for _ in range(3):
        assert (await engine.solve(problem(1, 2), Always("small"))).stop == "error"
    before = server.ask("/counters")["requests"]
    trace = await engine.solve(problem(1, 2), Always("small"))
    assert "small has failed 3 times in a row and is left alone for now" in str(trace.error)
    assert server.ask("/counters")["requests"] == before
    await engine.close()


async def test_a_wrong_name_is_refused_before_any_work(server: Served, tokenizer: str) -> None:
    pair = pool(server, tokenizer)
    wrong = structs.replace(pair, models=(pair.models[0].with_options(served_name="smal"), pair.models[1]))
    with pytest.raises(ConfigError, match="served_name must be one of small, large"):
        wrong.engine()
    with pytest.raises(ConfigError, match="environment variable 'NO_SUCH_KEY' is not set"):
        structs.replace(pair, models=(pair.models[0].with_options(api_key_env="NO_SUCH_KEY"),)).engine()


async def test_the_other_model_finishes_when_a_server_is_gone(server: Served, tokenizer: str) -> None:
    pair = pool(server, tokenizer)
    gone = pair.models[1].with_options(
        base_url=f"http://127.0.0.1:{free_port()}/v1", context=2000, patience=HASTY
    )
    engine = structs.replace(pair, models=(pair.models[0], gone)).engine(failover=True)
    trace = await engine.solve(problem(1, 7, 2), ROUTER)
    assert trace.stop == "answered" and {step.model for step in trace.steps} == {"small"}
    assert any(s.decision and "large cannot be run" in s.decision.reason for s in trace.steps)
    await engine.close()


async def test_a_run_survives_its_server_being_killed_and_started_again(
    server: Served, tokenizer: str
) -> None:
    engine = pool(server, tokenizer, **QUICK).engine()
    traces = {}
    async for trace in engine.solve_many(PROBLEMS, ROUTER, concurrency=8):
        traces[trace.problem.id] = trace
        if len(traces) == 10:
            server.kill()
            asyncio.get_running_loop().call_later(0.3, server.start)
    undisturbed = await solve_all(in_process(), PROBLEMS)
    assert {k: t.text for k, t in traces.items()} == {k: t.text for k, t in undisturbed.items()}
    await engine.close()


async def test_a_step_that_has_been_heard_goes_on_when_its_server_is_back(
    server: Served, tokenizer: str
) -> None:
    patience = {"deadline_s": 3600.0, "restart_s": 3600.0, "handover_s": 0.05, "first_wait_s": 0.02}
    engine = pool(server, tokenizer, **patience).engine(failover=True)
    server.ask("/faults", ["slow"])
    heard: list[Event] = []
    restarts: list[asyncio.Task[None]] = []

    async def restart() -> None:
        while not engine.backends["large"].presence.gone:  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        await asyncio.to_thread(server.start)

    def hear(event: Event) -> None:
        heard.append(event)
        if not restarts:
            server.kill()
            restarts.append(asyncio.create_task(restart()))

    trace = await engine.solve(problem(1, 2, 3), LargeFirst(9)).finish(hear)
    await restarts[0]
    undisturbed = await in_process().solve(problem(1, 2, 3), Always("large"))
    assert trace.text == undisturbed.text and not trace.degraded and len(heard) > 2 * len(trace.steps)
    await engine.close()


async def test_cancelling_a_solve_stops_the_generation(server: Served, tokenizer: str) -> None:
    engine = pool(server, tokenizer).engine(lookahead=True)
    server.ask("/faults", ["slow"])
    async for _ in engine.solve(problem(*[1] * 20), Always("large")):
        break
    await asyncio.to_thread(until, lambda: server.ask("/counters")["aborted"] == 1)
    assert server.ask("/counters")["generated"] < 100
    await engine.close()


@pytest.mark.slow
async def test_a_thousand_problems_with_faults_are_all_accounted_for(tmp_path: Path, tokenizer: str) -> None:
    served = Served(free_port(), tmp_path / "log.jsonl", rate=0.05)
    served.start()
    try:
        problems = [replace(problem(i % 10, i // 10 % 10, i // 100), id=str(i)) for i in range(1000)]
        engine = pool(served, tokenizer, **QUICK).engine()
        traces = await solve_all(engine, problems, concurrency=64)
        await engine.close()
    finally:
        served.kill()
    assert len(traces) == 1000 and all(trace.stop == "answered" for trace in traces.values())
    undisturbed = await solve_all(in_process(), problems)
    assert {k: t.text for k, t in traces.items()} == {k: t.text for k, t in undisturbed.items()}


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been(
    server: Served, tmp_path: Path
) -> None:
    """Killed at 20 random moments: no row is lost, and nothing that was stored is generated again."""
    choose, folder = random.Random(1), tmp_path / "killed"
    folder.mkdir()
    command = [sys.executable, "-m", "tests.killed_run", str(server.port), str(folder)]
    ends = []
    for _ in range(20):
        target = len(server.lines()) + choose.randint(1, 15)
        run = subprocess.Popen(command)
        until(lambda target=target, run=run: len(server.lines()) >= target or run.poll() is not None)  # type: ignore[misc]
        assert run.poll() is None, "the run ended before it could be killed"
        run.send_signal(signal.SIGKILL)
        run.wait()
        ends.append(len(server.lines()))
    subprocess.run(command, check=True)
    lines = server.lines()
    for i, line in enumerate(lines):
        if line in lines[:i]:
            # Generated twice: only what was on its way when a run was killed, a few lines before its end.
            first = lines.index(line)
            assert any(end - 2 * CONCURRENCY <= first < end + CONCURRENCY for end in ends), line
    rows = read_rows(folder / "rows.jsonl")
    engine = in_process()
    whole = engine.run(evaluate(engine, PROBLEMS, CONTENDERS, tmp_path / "undisturbed.jsonl"))
    assert len(rows) == len(whole) == len(PROBLEMS) * len(CONTENDERS)
    kept = ("problem", "router", "correct", "answer", "stop")

    def essence(row: Row) -> Any:
        return [*(getattr(row, name) for name in kept), *(step.text for step in row.steps)]

    assert sorted(map(essence, rows)) == sorted(map(essence, whole))


@pytest.mark.parametrize("lookahead", [False, True])
async def test_no_more_calls_are_in_flight_than_a_model_may_have(lookahead: bool) -> None:
    crowd = Crowd()
    limited = resilient(ScriptedBackend(lambda _: "The answer is 1.", before=crowd), "m", concurrency=3)
    names = ("m",) if lookahead else ()
    engine = Engine({"m": limited}, prompt="{question}\n", rule=StepRule(), cost=Tokens(), lookahead=names)
    problems = [replace(problem(1), id=str(i)) for i in range(20)]
    traces = await solve_all(engine, problems, 20, Always("m"))
    assert len(traces) == 20 and 1 < crowd.peak <= 3
    with pytest.raises(ConfigError, match="concurrency must be at least 1, not 0"):
        resilient(adder(), "m", concurrency=0)


async def test_a_judge_that_cannot_be_run_is_named_and_the_draft_taken() -> None:
    async def dead(_: str) -> None:
        raise BackendError("the server is gone.")

    router = ThresholdRouter(ProcessReward(), 0.5, "prm")
    broken = world(judge=ScriptedBackend(lambda _: "+", before=dead))
    failed = await broken.solve(problem(1, 2), router)
    assert failed.error == "the server is gone."
    assert failed.usage["small"] == Usage(prompt=4, discarded=len("0 + 1 = 1.\n")) and failed.cost > 0
    broken.failover = True
    trace = await broken.solve(problem(1, 2), router)
    assert trace.stop == "answered" and trace.steps[0].decision is not None
    assert "judge cannot be run" in trace.steps[0].decision.reason


def test_the_breaker_lets_one_call_through_after_a_rest() -> None:
    now = 0.0
    breaker = Breaker(2, 10.0, clock=lambda: now)
    states = [breaker.state]
    breaker.failed()
    breaker.admit("m")
    breaker.failed()
    states.append(breaker.state)
    with pytest.raises(BackendError, match="m has failed 2 times in a row"):
        breaker.admit("m")
    now = 10.0
    states.append(breaker.state)
    breaker.admit("m")
    with pytest.raises(BackendError):
        breaker.admit("m")
    breaker.gave_up()
    breaker.admit("m")
    breaker.succeeded()
    assert [*states, breaker.state] == ["closed", "open", "half-open", "closed"]


async def test_a_step_without_end_and_a_chain_that_loops_are_cut(server: Served, tokenizer: str) -> None:
    engine = structs.replace(pool(server, tokenizer), max_step_tokens=5, max_tokens=5).engine()
    assert (await engine.solve(problem(1, 2), Always("small"))).stop == "max_tokens"
    await engine.close()
