"""What a chain is charged is what the servers computed, whatever fails and whenever it is given up."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Awaitable, Coroutine, Generator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwise.backends.http.pace import Pace
from stepwise.backends.http.resilient import Patience, resilient
from stepwise.backends.scripted import ScriptedBackend
from stepwise.engine.backend import StreamingBackend
from stepwise.engine.cost import Tokens
from stepwise.engine.engine import Engine
from stepwise.engine.judge import Judge
from stepwise.engine.ledger import Ledger, Meter
from stepwise.engine.stop_rules import StepRule
from stepwise.errors import BackendError
from stepwise.routers import Always, Confidence, FirstTokenEntropy, ProcessReward, ThresholdRouter
from stepwise.store.backend import StoredBackend
from stepwise.store.sqlite import SqliteStore
from stepwise.types import Problem, Router, Trace, Usage
from tests.worlds import adder, checker, problem

NAMES = ("small", "large", "judge")
QUICK = Patience(deadline_s=0.05, first_wait_s=1e-6, max_wait_s=1e-6, failures=10_000)
ROUTERS: list[Router] = [
    Always("small"),
    Always("large"),
    ThresholdRouter(Confidence("min"), 0.5, "confidence"),
    ThresholdRouter(FirstTokenEntropy(), 0.3, "entropy"),
    ThresholdRouter(ProcessReward(), 0.5, "prm"),
]


class Weather:
    """Lets a server fail at given moments of its work, counted over its whole life."""

    def __init__(self, failures: set[int]) -> None:
        self._failures, self._moment = failures, 0

    async def __call__(self, _: str) -> None:
        await asyncio.sleep(0)
        self._moment += 1
        if self._moment in self._failures:
            raise BackendError("the server broke down.", retryable=self._moment % 2 == 0)


class Cancelled:
    """Awaits work, and cancels it at the awaits of these numbers, as a task's ``cancel`` would."""

    def __init__(self, work: Coroutine[Any, Any, Trace], moments: set[int]) -> None:
        self._work, self._moments = work, moments

    def __await__(self) -> Generator[Any, Any, Trace | None]:
        at, awaited = 0, self._work.__await__()
        try:
            waits = next(awaited)
            while True:
                at += 1
                if at in self._moments:
                    if waits is not None:
                        waits._asyncio_future_blocking = False
                        waits.cancel()
                    waits = awaited.throw(asyncio.CancelledError())
                    continue
                try:
                    yield waits
                except BaseException as error:
                    waits = awaited.throw(error)
                else:
                    waits = awaited.send(None)
        except StopIteration as end:
            finished: Trace = end.value
            return finished
        except asyncio.CancelledError:
            return None


async def awaited(work: Awaitable[Trace | None]) -> Trace | None:
    return await work


def servers(failures: dict[str, set[int]]) -> dict[str, ScriptedBackend]:
    made = {"small": adder(5), "large": adder(), "judge": checker()}
    for name, server in made.items():
        server.during = Weather(failures.get(name, set()))
    return made


def world(made: dict[str, ScriptedBackend], *, retries: bool, lookahead: bool, stored: bool) -> Engine:
    backends: dict[str, Any] = dict(made)
    if retries:
        backends = {name: resilient(one, name, patience=QUICK) for name, one in backends.items()}
    if stored:
        backends = {name: StoredBackend(one, SqliteStore(":memory:")) for name, one in backends.items()}
    judge = Judge(backends.pop("judge"))
    ahead = [name for name, one in backends.items() if lookahead and isinstance(one, StreamingBackend)]
    return Engine(
        backends, prompt="{question}\n", rule=StepRule("\n", 64, 12), cost=Tokens(), judge=judge,
        lookahead=ahead, failover=True,
    )  # fmt: skip


moments = st.sets(st.integers(1, 40), max_size=4)


@given(
    numbers=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    router=st.sampled_from(ROUTERS),
    failures=st.fixed_dictionaries(dict.fromkeys(NAMES, moments)),
    cancelled=st.sets(st.integers(1, 120), max_size=2),
    retries=st.booleans(),
    way=st.sampled_from(["calls", "lookahead", "stored"]),
)
@settings(max_examples=400, deadline=None)
def test_charged_is_what_the_servers_computed(
    numbers: list[int],
    router: Router,
    failures: dict[str, set[int]],
    cancelled: set[int],
    retries: bool,
    way: str,
) -> None:
    made = servers(failures)
    engine = world(made, retries=retries, lookahead=way == "lookahead", stored=way == "stored")
    solution = engine.solve(problem(*numbers), router)
    asyncio.run(awaited(Cancelled(solution.finish(), cancelled)))
    trace = solution.trace
    assert trace is not None
    assert trace.cost == pytest.approx(engine.cost(trace.usage))
    for name, server in made.items():
        served, charged = sum(server.calls, Usage()), trace.usage.get(name, Usage())
        assert charged.prompt == served.prompt
        assert charged.completion + charged.discarded == served.completion
        if way != "stored":  # a store counts what the chain itself has sent before
            assert charged.cached <= served.cached
        assert charged.estimated == 0


def assert_charged(trace: Trace | None, made: dict[str, ScriptedBackend], moment: int) -> None:
    assert trace is not None
    served = sum((call for server in made.values() for call in server.calls), Usage())
    charged = sum(trace.usage.values(), Usage())
    assert charged.prompt == served.prompt, moment
    assert charged.completion + charged.discarded == served.completion, moment


WAYS = pytest.mark.parametrize("way", ["calls", "lookahead", "stored"])
EVERY_ROUTER = pytest.mark.parametrize("router", ROUTERS, ids=lambda router: router.name)


@WAYS
@EVERY_ROUTER
def test_a_chain_is_charged_wherever_it_is_cancelled(router: Router, way: str) -> None:
    """Every await of one chain in turn."""
    for moment in range(1, 400):
        made = servers({})
        engine = world(made, retries=False, lookahead=way == "lookahead", stored=way == "stored")
        solution = engine.solve(problem(1, 7, 2), router)
        finished = asyncio.run(awaited(Cancelled(solution.finish(), {moment})))
        assert_charged(solution.trace, made, moment)
        if finished is not None:  # there are no more awaits than this
            assert moment > 4
            return
    pytest.fail("the chain never ended by itself")


@WAYS
@EVERY_ROUTER
def test_a_chain_is_charged_whatever_its_servers_are_doing_when_it_is_cancelled(
    router: Router, way: str
) -> None:
    """Every moment of the servers' work in turn."""

    async def cancelled_at(moment: int) -> bool:
        made = servers({})
        engine = world(made, retries=False, lookahead=way == "lookahead", stored=way == "stored")
        solution = engine.solve(problem(1, 7, 2), router)
        task = asyncio.ensure_future(solution.finish())
        moments = iter(range(1, moment + 1))

        async def work(_: str) -> None:
            if next(moments, None) == moment:
                task.cancel()
            await asyncio.sleep(0)

        for server in made.values():
            server.during = work
        await asyncio.wait({task})
        assert_charged(solution.trace, made, moment)
        return task.cancelled()

    last = next(moment for moment in range(1, 400) if not asyncio.run(cancelled_at(moment)))
    assert last > 10


def test_what_belongs_to_no_step_is_discarded_beside_them() -> None:
    ledger = Ledger()
    ledger.charge("m", Usage(prompt=5, completion=3))
    branch = ledger.fork()
    assert ledger.settle({"m": Usage(completion=2)}) == {"m": Usage(prompt=5, completion=1, discarded=2)}
    assert ledger.step == {} and branch.step == {"m": Usage(prompt=5, completion=3)}
    branch.charge_beside("estimator", Usage(prompt=7))
    branch.close()
    assert branch.beside == {"estimator": Usage(prompt=7), "m": Usage(prompt=5, discarded=3)}


def test_an_attempt_that_failed_has_brought_its_prompt_to_the_server() -> None:
    sent: list[int] = []
    ledger = Ledger()
    meter = Meter(ledger, "m", 10, 0, sent.append)
    meter.lost(Usage(prompt=10, cached=10, completion=2))
    meter.completed(Usage(prompt=10, cached=9, completion=4))
    assert sent == [10]
    assert ledger.step == {"m": Usage(prompt=20, cached=9, completion=4, discarded=2)}


def test_a_call_that_nobody_counted_is_estimated_by_the_pace_of_others() -> None:
    now = iter([0.0, 2.0, 10.0, 11.0, 20.0, 80.0]).__next__
    told: list[Usage] = []
    pace = Pace(now)
    with pace.watch(7, 50, told.append) as call:
        call.finished(Usage(7, 0, 20))  # ten tokens a second
    for _ in range(2):  # cut off after one second, and after a minute
        with pytest.raises(asyncio.CancelledError), pace.watch(7, 50, told.append):
            raise asyncio.CancelledError
    assert told == [
        Usage(prompt=7, completion=10, estimated=17),
        Usage(prompt=7, completion=50, estimated=57),
    ]


def test_a_trace_is_a_value() -> None:
    made = servers({})
    engine = world(made, retries=False, lookahead=False, stored=False)
    trace = engine.solve_sync(problem(1, 7), ROUTERS[2])
    again = world(servers({}), retries=False, lookahead=False, stored=False).solve_sync(
        problem(1, 7), ROUTERS[2]
    )
    assert trace == again and hash(trace) == hash(again) and len({trace, again}) == 1
    assert pickle.loads(pickle.dumps(trace)) == trace
    assert eval(repr(trace), {name: getattr(__import__("stepwise.types", fromlist=[name]), name) for name in (
        "Trace", "Step", "Problem", "Usage", "Signals", "Decision", "Verdict")}) == trace  # fmt: skip
    assert trace != engine.solve_sync(Problem("other", "1 7", "8"), ROUTERS[2])
