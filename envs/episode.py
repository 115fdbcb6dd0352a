"""One episode: a chain of thought seen as a Markov decision process.

Both forms of the environment, single and batched, are made of this.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.tree import Node, Tree
from stepwise.types import Problem, Trace

Observation = NDArray[np.float32]
MAX_COST_WEIGHT = 10.0


def cost_weight_feature(cost_weight: float) -> float:
    """λ, the cost weight, as an observation in [0, 1]: ln(1 + 10 λ) / ln(1 + 10 MAX_COST_WEIGHT)."""
    return math.log1p(10 * cost_weight) / math.log1p(10 * MAX_COST_WEIGHT)


def observation(node: Node, cost_weight: float) -> Observation:
    """What the agent sees of a chain: the observer's features, who can go on, and the cost weight
    [features + models + 1]."""
    return np.concatenate((node.features, node.open, [cost_weight_feature(cost_weight)]), dtype=np.float32)


@dataclass(frozen=True)
class Transition:
    """What an action led to. ``terminated`` and ``truncated`` are as in Gymnasium."""

    observation: Observation
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]


class Episode:
    """A chain under construction, with the cost weight of its reward.

    Args:
        tree: grows the chain, and remembers it for other episodes.
        problem: must have a gold answer.
        cost_weight: λ, the reward lost per unit of cost.
        cost_scale: cost of one unit, in the engine's unit (the mean cost of large-only).
    """

    def __init__(self, tree: Tree, problem: Problem, *, cost_weight: float, cost_scale: float) -> None:
        self._tree = tree
        self._cost_weight = cost_weight
        self._scale = cost_scale
        self._problem = problem
        self._node: Node | None = None

    @property
    def trace(self) -> Trace:
        return self._node.trace if self._node else Trace(self._problem)

    @property
    def open(self) -> NDArray[np.bool_]:
        """Which actions make sense [models]; see `Node`."""
        return self._node.open if self._node else np.ones(len(self._tree.engine.models), bool)

    async def begin(self) -> Observation:
        """Look for the first time. If a model fails here, the first action ends the episode."""
        self._node = await self._tree.root(self._problem)
        return self._observe(self._node)

    async def act(self, action: int) -> Transition:
        """Let model number ``action`` write the next step, then look again."""
        before = self._node or await self._tree.root(self._problem)
        return self._arrive(before, await self._tree.child(before, action))

    def recall_begin(self) -> Observation | None:
        """`begin` without waiting; None where no episode has been before."""
        self._node = self._tree.known_root(self._problem)
        return self._observe(self._node) if self._node else None

    def recall_act(self, action: int) -> Transition | None:
        """`act` without waiting; None where no episode has been before."""
        before = self._node
        node = self._tree.known_child(before, action) if before else None
        return self._arrive(before, node) if before and node else None

    def _arrive(self, before: Node, node: Node) -> Transition:
        self._node = node
        cost = (node.cost - before.cost) / self._scale
        info: dict[str, Any] = {"cost": cost}
        stop = node.trace.stop
        if stop is not None:
            total = node.cost / self._scale
            info |= {"trace": node.trace, "correct": node.correct, "total_cost": total}
        reward = node.correct - self._cost_weight * cost
        return Transition(self._observe(node), reward, stop not in (None, "error"), stop == "error", info)

    def _observe(self, node: Node) -> Observation:
        return observation(node, self._cost_weight)
