"""A mistake in a router's own code ends the run, with one sentence that says where."""

from __future__ import annotations

import asyncio
import gc
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from stepwise.engine.concurrency import as_they_finish
from stepwise.engine.deciding import check_router
from stepwise.errors import BackendError, ConfigError, RouterError
from stepwise.types import Decision, Trace
from tests.worlds import engine, problem


@dataclass(frozen=True)
class Own:
    """A router of somebody's own."""

    decided: Callable[[Trace], Any]
    look: Any = "before"
    name: str = "own"

    def decide(self, trace: Trace) -> Any:
        return self.decided(trace)


def broken(trace: Trace) -> Decision:
    return json.loads("no JSON")  # type: ignore[no-any-return]


MISTAKES = [
    (Own(broken), r"router 'own' failed at step 1 of problem 'sum-1 2': JSONDecodeError: .* \(test_deciding"),
    (
        Own(lambda _: "large"),
        r"'own' at step 1 of problem 'sum-1 2': decide \(test_deciding.py:\d+\) must ret",
    ),
    (Own(lambda _: None), "must return a Decision, not None"),
    (Own(lambda _: Decision("huge")), "'own' at step 1 .*: model must be one of small, large, not 'huge'"),
    (Own(lambda _: Decision("small", look="draft")), "router 'own': look must be one of .*, not 'draft'"),  # type: ignore[arg-type]
    (Own(lambda _: Decision("small"), "after-draft"), "look must be one of before, .*, not 'after-draft'"),
]


@pytest.mark.parametrize(("router", "sentence"), MISTAKES)
def test_a_mistake_is_a_sentence(router: Own, sentence: str) -> None:
    with pytest.raises(RouterError, match=sentence) as caught:
        engine().solve_sync(problem(1, 2), router)
    assert "\n" not in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(("router", "sentence"), MISTAKES)
async def test_a_mistake_ends_a_run_of_many(router: Own, sentence: str) -> None:
    with pytest.raises(RouterError, match=sentence.replace("'sum-1 2'", ".*")):
        async for _ in engine().solve_many([problem(1, 2), problem(3)], router):
            pass


async def test_a_problem_that_cannot_be_solved_does_not() -> None:
    problems = [problem(), problem(3)]
    router = Own(lambda _: Decision("small"))
    traces = [trace async for trace in engine().solve_many(problems, router)]
    assert sorted(trace.stop or "" for trace in traces) == ["answered", "error"]


def test_a_model_that_a_router_asks_may_fail() -> None:
    def asks(trace: Trace) -> Decision:
        raise BackendError("the judge is away")

    assert engine().solve_sync(problem(1), Own(asks)).error == "the judge is away"


async def test_of_tasks_that_fail_together_none_is_left_alone() -> None:
    unheard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))

    async def fails(number: int) -> None:
        raise ValueError(number)

    with pytest.raises(ValueError):
        async for _ in as_they_finish(fails, range(8), 8):
            pass
    gc.collect()
    await asyncio.sleep(0)
    assert not unheard


@pytest.mark.parametrize(
    ("router", "sentence"),
    [
        (object(), "router object has no 'name'; it needs name, look, decide"),
        (Own, "router must be an object, not the class Own; call it"),
        (Own(broken, "soon"), "router 'own': look must be one of"),
    ],
)
def test_what_is_no_router_is_refused_before_any_work(router: object, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        check_router(router)
