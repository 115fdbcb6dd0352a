"""Walking the validation problems: a bounded number at a time, and none waits for another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from envs.task import Task
from policies.validation import Walk, walk
from stepwise.engine.engine import Engine
from tests.worlds import Crowd, engine, problem

SHORT = [problem(a, b) for a in (1, 7) for b in range(8)]
LONG = problem(*[1] * 12)
WEIGHTS = (0.1, 1.0)


def often_large(seen: NDArray[np.float32]) -> list[int]:
    """Depends on every number that it is shown, as a network does."""
    score = seen @ np.linspace(-1.0, 1.0, seen.shape[1], dtype=np.float32)
    return [int(action) for action in np.floor(100 * score).astype(int) % 2]


def walked(world: Engine, lanes: int) -> list[Walk]:
    task = Task(world, [LONG, *SHORT])
    return world.run(walk(task.tree, task.problems, WEIGHTS, often_large, lanes))


def steps(walks: Sequence[Walk]) -> list[tuple[float, str, list[int]]]:
    return [(done.cost_weight, done.end.problem.id, done.actions) for done in walks]


def test_no_more_generations_than_lanes_are_in_flight() -> None:
    world, crowd = engine(), Crowd()
    for backend in world.backends.values():
        backend._before = crowd  # type: ignore[attr-defined]
    walks = walked(world, 5)
    assert crowd.peak == 5
    assert [done.end.problem for done in walks] == [LONG, *SHORT] * 2
    assert all(len(done.nodes) == len(done.actions) + 1 for done in walks)
    assert {action for done in walks for action in done.actions} == {0, 1}


def test_a_chain_that_takes_long_holds_up_nobody_but_its_lane() -> None:
    world, held, begun = engine(), asyncio.Event(), set()

    async def before(text: str) -> None:
        begun.add(text.split("\n")[0])
        if text.startswith(LONG.question) and text.count("\n") > 2:
            await held.wait()
        if len(begun) > len(SHORT) // 2:
            held.set()

    for backend in world.backends.values():
        backend._before = before  # type: ignore[attr-defined]
    assert steps(walked(world, 2)) == steps(walked(engine(), 2))


def test_what_arrives_first_changes_nothing() -> None:
    late = engine()

    async def before(text: str) -> None:
        for _ in range(len(text) % 7 * 3):
            await asyncio.sleep(0)

    for backend in late.backends.values():
        backend._before = before  # type: ignore[attr-defined]
    assert steps(walked(late, 4)) == steps(walked(engine(), 4)) == steps(walked(engine(), 64))
