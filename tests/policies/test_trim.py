"""TRIM-Agg as published: its size, its five numbers, and that its PPO learns in a judged world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs import RoutingVectorEnv
from policies import trim
from stepwise.errors import ConfigError
from stepwise.routers import Always
from stepwise.types import Trace
from stepwise.verify import is_correct
from tests.worlds import checker, engine, problem

PROBLEMS = [problem(a, b, c) for a in (1, 7) for b in (2, 8, 9) for c in (0, 3, 6)]


def judged() -> Any:
    return engine(judge=checker())


def test_the_network_has_the_published_size() -> None:
    body = trim.Body()
    heads = 2 * 64 + 2 + 64 + 1
    assert sum(p.numel() for p in body.parameters()) + heads == 13_571


def test_the_five_numbers() -> None:
    world = judged()
    chain = world.start(problem(9, 1))
    world.run(world.look(chain, "judged"))
    trace = chain.trace
    start = trim.observe(trace, "+")
    assert start[:2].tolist() == [1.0, 1.0] and start[4] == 0.0
    assert start[2] < 0.5  # the judge rejects a sum that the small model got wrong
    assert trace.draft is not None and start[3] == pytest.approx(len(trace.draft.token_ids) / 300)

    async def after(model: str) -> Trace:
        branch = chain.fork()
        await world.advance(branch, model)
        await world.look(branch, "judged")
        grown: Trace = branch.trace
        return grown

    assert trim.observe(world.run(after("small")), "+")[0] == pytest.approx(start[2])
    mended = trim.observe(world.run(after("large")), "+")
    assert mended[0] == 1.0  # nobody rewards what the large model writes


def test_only_tokens_of_the_large_model_are_charged() -> None:
    world = judged()
    alone = world.solve_sync(PROBLEMS[0], Always("large"))
    assert trim.large_tokens(alone, "large") == 1 + sum(len(step.token_ids) for step in alone.steps)
    assert trim.large_tokens(world.solve_sync(PROBLEMS[0], Always("small")), "large") == 0.0


def test_it_learns_to_mend_what_the_judge_rejects(tmp_path: Path) -> None:
    world = judged()
    env = RoutingVectorEnv(world, PROBLEMS, 64, "judged", cost_weight=1e-2, observer=trim.observer("+"))
    trim.train(env, 30_000, 0, tmp_path / "0.01")
    router = trim.TrimRouter(str(tmp_path), 1e-2, good="+")
    traces = [world.solve_sync(p, router) for p in PROBLEMS]
    assert np.mean([is_correct(trace) for trace in traces]) >= 0.9
    steps = [step for trace in traces for step in trace.steps]
    assert 0.1 < np.mean([step.model == "large" for step in steps]) < 0.9
    with pytest.raises(ConfigError, match=r"scripts\.baselines\.trim"):
        trim.TrimRouter(str(tmp_path), 0.5)
