"""The thresholds that are calibrated part what a policy does."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from envs.task import Task
from policies.grid import LENGTH, thresholds
from policies.reference import Reference
from policies.validation import COST_WEIGHTS, walk
from stepwise.routers import Always, PolicyRouter
from stepwise.routers.policy import gain_and_cost
from tests.policies.test_train import PROBLEMS, run
from tests.worlds import engine


def test_decisions_change_from_each_threshold_to_the_next(tmp_path: Path) -> None:
    artifact = run(tmp_path, 2048, Reference(1e3, 1.0, 1))
    chosen = artifact.card["thresholds"]
    world = engine()
    task = Task(world, PROBLEMS[::2])

    def act(seen: np.ndarray) -> list[int]:
        """Small and large by turns, so that the grid is not of one policy's chains alone."""
        return [i % 2 for i in range(len(seen))]

    walks = world.run(walk(task.tree, task.problems, COST_WEIGHTS, act))
    nodes = [node for walked in walks for node in walked.nodes[:-1]]
    worth = np.array([np.divide(*gain_and_cost(artifact.weights, node.features))[0] for node in nodes])
    again = thresholds(task, act, artifact.weights)
    assert LENGTH >= len(chosen) > 3 and len(again) > 3
    large = [float((worth >= threshold).mean()) for threshold in again]
    assert large[0] == 1.0 and large[-1] == 0.0
    assert all(before > after for before, after in pairwise(large))
    assert max(before - after for before, after in pairwise(large)) < 0.5


def test_at_its_ends_a_policy_uses_one_model(tmp_path: Path) -> None:
    artifact = run(tmp_path, 2048, Reference(1e3, 1.0, 1))
    world, ends = engine(), (artifact.card["thresholds"][0], artifact.card["thresholds"][-1])
    for threshold, model in zip(ends, ("large", "small"), strict=True):
        traces = [world.solve_sync(problem, PolicyRouter(artifact, threshold)) for problem in PROBLEMS]
        alone = [world.solve_sync(problem, Always(model)) for problem in PROBLEMS]
        assert {step.model for trace in traces for step in trace.steps} == {model}
        assert [trace.answer for trace in traces] == [trace.answer for trace in alone]
