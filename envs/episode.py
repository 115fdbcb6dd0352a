"""One episode: a chain of thought seen as a Markov decision process.

Both forms of the environment, single and batched, are made of this.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

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
    """What the agent sees of a chain: the observer's features, which actions make sense, and the cost weight
    [features + actions + 1]."""
    return np.concatenate((node.features, node.open, [cost_weight_feature(cost_weight)]), dtype=np.float32)


@dataclass(frozen=True)
class Transition:
    """What an action led to. ``terminated`` and ``truncated`` are as in Gymnasium."""

    observation: Observation
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]


class Start(TypedDict, total=False):
    """How an episode begins: the ``options`` of a reset. What is left out is drawn.

    Attributes:
        problem: its index.
        cost_weight: λ.
    """

    problem: int
    cost_weight: float


class Episode:
    """A chain under construction, with the cost weight of its reward.

    Attributes:
        start: how it began; together with ``actions`` it says where it is.
        actions: taken so far.

    Args:
        tree: grows the chain, and remembers it for other episodes.
        problem: must have a gold answer.
        index: of the problem.
        potential: Φ of a chain, for shaping; see `envs.task.Task`.
        cost_weight: λ, the reward lost per unit of cost.
        cost_scale: cost of one unit, in the engine's unit (the mean cost of large-only).
    """

    def __init__(
        self,
        tree: Tree,
        problem: Problem,
        *,
        cost_weight: float,
        cost_scale: float,
        index: int = 0,
        potential: Callable[[Trace], float] | None = None,
    ) -> None:
        self.start = Start(problem=index, cost_weight=cost_weight)
        self.actions: list[int] = []
        self._tree = tree
        self._cost_weight = cost_weight
        self._scale = cost_scale
        self._potential = potential
        self._problem = problem
        self._node: Node | None = None

    @property
    def trace(self) -> Trace:
        return self._node.trace if self._node else Trace(self._problem)

    @property
    def ended(self) -> bool:
        """Whether its chain has; it takes no more actions then, but for the one that tells of a failure at
        the first look."""
        return self._node is not None and self._node.stop is not None and bool(self.actions)

    @property
    def open(self) -> NDArray[np.bool_]:
        """Which actions make sense [actions]; see `Node`."""
        return self._node.open if self._node else self._tree.all

    async def begin(self) -> Observation:
        """Look for the first time. If a model fails here, the first action ends the episode."""
        self._node = await self._tree.root(self._problem)
        return self._observe(self._node)

    async def act(self, action: int) -> Transition:
        """Let model number ``action`` write the next step, or the draft be read, then look again."""
        before = self._node or await self._tree.root(self._problem)
        return self._arrive(before, action, await self._tree.child(before, action))

    async def replay(self, actions: Sequence[int]) -> Observation:
        """Begin, and take actions that were taken before."""
        seen = await self.begin()
        for action in actions:
            seen = (await self.act(action)).observation
        return seen

    def recall_begin(self) -> Observation | None:
        """`begin` without waiting; None where no episode has been before."""
        self._node = self._tree.known_root(self._problem)
        return self._observe(self._node) if self._node else None

    def recall_act(self, action: int) -> Transition | None:
        """`act` without waiting; None where no episode has been before."""
        before = self._node
        node = self._tree.known_child(before, action) if before else None
        return self._arrive(before, action, node) if before and node else None

    def _arrive(self, before: Node, action: int, node: Node) -> Transition:
        self._node = node
        self.actions.append(action)
        cost = (node.cost - before.cost) / self._scale
        info: dict[str, Any] = {"cost": cost}
        stop = node.stop
        if stop is not None:
            total = node.cost / self._scale
            info |= {"trace": node.trace, "correct": node.correct, "total_cost": total}
        reward = node.correct - self._cost_weight * cost
        if self._potential is not None:
            after = 0.0 if stop is not None else self._potential(node.trace)
            reward += after - self._potential(before.trace)
        return Transition(self._observe(node), reward, stop not in (None, "error"), stop == "error", info)

    def _observe(self, node: Node) -> Observation:
        return observation(node, self._cost_weight)
