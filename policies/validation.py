"""How good a policy is on problems that it does not learn from, and when to stop learning."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback

from envs.episode import Observation, observation
from envs.task import Task
from envs.tree import Node, Tree
from policies.reference import measure_reference
from stepwise.engine.concurrency import as_they_finish
from stepwise.evaluation.metrics import Point, aiq, curve
from stepwise.types import Problem

COST_WEIGHTS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0)
LANES = 128
"""Chains that are walked at a time: at most as many generations are in flight."""
Act = Callable[[NDArray[np.float32]], Sequence[int]]
"""Observations [k, features + models + 1] to actions [k]."""


def greedy(policy: Any) -> Act:
    """A policy's likeliest actions, which are what it is served with."""

    def act(seen: NDArray[np.float32]) -> list[int]:
        with torch.no_grad():
            likeliest = policy.mlp_extractor.forward_actor(torch.from_numpy(seen)).argmax(1)
        actions: list[int] = likeliest.tolist()
        return actions

    return act


@dataclass
class Walk:
    """A chain as it was walked: the nodes that it went through, the last one its end, and what was done at
    the others."""

    cost_weight: float
    nodes: list[Node] = field(default_factory=list)
    actions: list[int] = field(default_factory=list)

    @property
    def end(self) -> Node:
        """Where it ended."""
        return self.nodes[-1]


class Lanes:
    """Lets several chains at a time ask for actions, in one pass of the network for all that wait.

    The network always sees as many rows, each chain's in the place of its lane, because the rounding of a
    matrix product depends on its shape: what a chain is told does not depend on who else asks.
    """

    def __init__(self, act: Act, lanes: int) -> None:
        self._act = act
        self._seen: list[Observation | None] = [None] * lanes
        self._waiting: dict[int, asyncio.Future[int]] = {}

    async def act(self, lane: int, seen: Observation) -> int:
        """The action for what a chain's agent sees."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._answer)
        self._seen[lane] = seen
        waiting: asyncio.Future[int] = loop.create_future()
        self._waiting[lane] = waiting
        return await waiting

    def _answer(self) -> None:
        some = next(seen for seen in self._seen if seen is not None)
        actions = self._act(np.stack([some if seen is None else seen for seen in self._seen]))
        waiting, self._waiting = self._waiting, {}
        for lane, future in waiting.items():
            if not future.cancelled():
                future.set_result(actions[lane])


async def walk(
    tree: Tree, problems: Sequence[Problem], cost_weights: Sequence[float], act: Act, lanes: int = LANES
) -> list[Walk]:
    """Walk every problem at every cost weight, all chains of one weight before those of the next.

    As many chains as there are lanes are under way at a time, and none waits for another.
    """
    walks = [(problem, Walk(cost_weight)) for cost_weight in cost_weights for problem in problems]
    lanes = min(lanes, len(walks))
    agents = Lanes(act, lanes)

    async def follow(lane: int) -> None:
        for problem, walk in walks[lane::lanes]:
            node = await tree.root(problem)
            while node.stop is None:
                action = await agents.act(lane, observation(node, walk.cost_weight))
                walk.nodes.append(node)
                walk.actions.append(action)
                node = await tree.child(node, action)
            walk.nodes.append(node)

    async for _ in as_they_finish(follow, range(lanes), lanes):
        pass
    return [walk for _, walk in walks]


async def outcomes(
    tree: Tree, problems: Sequence[Problem], cost_weights: Sequence[float], act: Act
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Correct and cost (in the engine's unit) of every problem at every cost weight, both
    [cost_weights, problems]."""
    ends = [walk.end for walk in await walk(tree, problems, cost_weights, act)]
    shape = (len(cost_weights), len(problems))
    correct, cost = [node.correct for node in ends], [node.cost for node in ends]
    return np.array(correct, float).reshape(shape), np.array(cost).reshape(shape)


class Validation(BaseCallback):
    """Measures the frontier on validation problems between rollouts, and keeps the best weights.

    The measure is AIQ, the mean accuracy from the cost of small-only to that of large-only; with a budget it
    is the accuracy within it. Its state lives in the model, so that a checkpoint has it.

    Args:
        task: the validation problems, in the same world as the training ones.
        every: rollouts from one measurement to the next.
        patience: training ends after as many measurements without a new best; None for never.
        budget: as a fraction of large-only, where the policy is for one.
    """

    def __init__(self, task: Task, every: int, patience: int | None, budget: float | None = None) -> None:
        super().__init__()
        self._task, self._every, self._patience, self._budget = task, every, patience, budget
        self._ends: tuple[Point, Point] | None = None
        self._unit = 0.0
        self._rollouts = 0

    def _on_training_start(self) -> None:
        """A run that ended early goes on if it is given more steps than it had."""
        state, total = self.state, self.model._total_timesteps
        if total > state.setdefault("total", total):
            state |= {"total": total, "since": 0}

    @property
    def state(self) -> dict[str, Any]:
        start = {"at": -1, "best": -np.inf, "best_at": 0, "since": 0, "curve": []}
        state: dict[str, Any] = self.model.__dict__.setdefault("validation", start)
        return state

    def _on_rollout_start(self) -> None:
        if self._rollouts % self._every == 0:
            self._measure()
        self._rollouts += 1

    def _on_step(self) -> bool:
        return self._patience is None or self.state["since"] < self._patience

    def _on_training_end(self) -> None:
        self._measure()

    def _measure(self) -> None:
        state = self.state
        if state["at"] == self.num_timesteps:  # a resumed run begins where it has just measured
            return
        value = self.frontier()
        state["random_mix"] = self._random_mix()
        better = value > state["best"]
        state |= {"at": self.num_timesteps, "since": 0 if better else state["since"] + 1}
        state["curve"].append((self.num_timesteps, value))
        if better:
            state |= {
                "best": value,
                "best_at": self.num_timesteps,
                "weights": copy.deepcopy(self.model.policy.state_dict()),
            }
        self.logger.record("validation/frontier", value)
        self.logger.record("validation/best", state["best"])

    def frontier(self) -> float:
        """The measure under the present weights."""
        engine, problems = self._task.engine, self._task.problems
        ends = self._ends = self._ends or self._measure_ends()
        act = greedy(self.model.policy)
        correct, cost = engine.run(outcomes(self._task.tree, problems, COST_WEIGHTS, act))
        frontier = curve(cost.mean(1) / self._unit, correct.mean(1), *ends)
        if self._budget is not None:
            return float(frontier.at(max(self._budget, ends[0].cost)))
        return aiq(frontier, ends[0].cost, 1.0)

    def _random_mix(self) -> float:
        """The measure of sending questions to the two models at random."""
        small, large = self._ends or self._measure_ends()
        if self._budget is None:
            return (small.accuracy + large.accuracy) / 2
        return float(np.interp(self._budget, [small.cost, 1.0], [small.accuracy, large.accuracy]))

    def _measure_ends(self) -> tuple[Point, Point]:
        """Small-only and large-only, which no training changes; large-only's cost is the unit."""
        engine, problems = self._task.engine, self._task.problems
        large = engine.run(measure_reference(engine, problems))
        self._unit = large.large_cost
        correct, cost = engine.run(outcomes(self._task.tree, problems, [0.0], lambda seen: [0] * len(seen)))
        small = Point(float(cost.mean()) / self._unit, float(correct.mean()))
        return small, Point(1.0, large.large_accuracy)
