"""The oracle finds the cheapest right chain; exhaustive enumeration agrees."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from envs.tree import Tree
from policies.oracle import Best, frontier, search
from stepwise.engine.chain import Chain
from stepwise.evaluation.replayed import Bench
from stepwise.recording.folder import Recording
from stepwise.types import Trace
from stepwise.verify import is_correct
from tests.worlds import engine, problem


def test_search_agrees_with_trying_every_chain() -> None:
    world = engine()
    for numbers in ((1, 9, 2), (9, 1, 9), (1, 2, 3), (9, 9, 9, 9)):
        question = problem(*numbers)
        best = world.run(search(Tree(world, "before"), question))

        async def grow(choices: tuple[str, ...], chain: Chain) -> Trace:
            for model in choices:
                if chain.trace.stop is None:
                    await world.advance(chain, model)
            return chain.trace

        ends = [
            world.run(grow(choices, world.start(question)))
            for choices in itertools.product(world.models, repeat=len(numbers) + 1)
        ]
        assert best.right == pytest.approx(min(trace.cost for trace in ends if is_correct(trace)))
        assert best.cheapest == pytest.approx(min(trace.cost for trace in ends))


def test_a_chain_that_leaves_a_recording_has_no_cheap_end() -> None:
    """Where each model alone is recorded, and little else, the cheapest end is the cheaper one of them."""
    bench = Bench(Recording("recordings/math500-qwen_coder")).restricted(range(20))
    tree = Tree(bench.engine, "before")
    cheapest = [bench.engine.run(search(tree, problem)).cheapest for problem in bench.problems]
    assert sum(cheapest) == pytest.approx(np.minimum(bench.small.cost, bench.large.cost).sum(), rel=0.02)


def test_the_frontier_mends_the_cheapest_answers_first() -> None:
    found = [
        Best("right already", 1.0, True, 1.0, 1, True),
        Best("dear", 1.0, False, 9.0, 1, True),
        Best("cheap", 1.0, False, 3.0, 1, True),
        Best("hopeless", 1.0, False, float("nan"), 1, True),
    ]
    cost, accuracy = frontier(found, unit=10.0)
    assert accuracy.tolist() == [0.25, 0.5, 0.75]
    assert cost.tolist() == pytest.approx([0.1, 0.15, 0.35])
