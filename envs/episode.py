"""One episode: a chain of thought seen as a Markov decision process.

Both forms of the environment, single and batched, are made of this.
"""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepwise.engine import Engine, failed
from stepwise.errors import BackendError
from stepwise.features import FEATURES, HIGH, LOW, observe
from stepwise.types import Look, Problem, Trace

Observation = NDArray[np.float32]
OBSERVATION_LOW = np.append(LOW, np.float32(0.0))
OBSERVATION_HIGH = np.append(HIGH, np.float32(1.0))
MAX_PRICE = 10.0


def price_feature(price: float) -> float:
    """The price of cost as an observation in [0, 1]: ln(1 + 10 price) / ln(1 + 10 MAX_PRICE)."""
    return float(np.log1p(10 * price) / np.log1p(10 * MAX_PRICE))


@dataclass(frozen=True)
class Transition:
    """What an action led to. ``terminated`` and ``truncated`` are as in Gymnasium."""

    observation: Observation
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]


class Episode:
    """A chain under construction, with the price that its reward charges for cost.

    Args:
        engine: grows the chain.
        problem: must have a gold answer.
        look: what is in the trace when the agent decides.
        price: reward lost per unit of cost.
        cost_scale: cost of one unit, in the engine's unit (the mean cost of large-only).
    """

    def __init__(
        self, engine: Engine, problem: Problem, *, look: Look, price: float, cost_scale: float
    ) -> None:
        self._engine = engine
        self._look: Look = look
        self._price = price
        self._scale = cost_scale
        self.trace = engine.start(problem)

    async def begin(self) -> Observation:
        """Look for the first time. If a model fails here, the first action ends the episode."""
        await self._see()
        return self._observe()

    async def act(self, action: int) -> Transition:
        """Let model number ``action`` write the next step, then look again."""
        spent = self.trace.cost
        if self.trace.stop is None:
            await self._grow(self._engine.advance(self.trace, self._engine.models[action]))
        await self._see()
        trace = self.trace
        correct = trace.correct
        cost = (trace.cost - spent) / self._scale
        info: dict[str, Any] = {"cost": cost}
        if trace.stop is not None:
            info |= {"trace": trace, "correct": correct, "total_cost": trace.cost / self._scale}
        broken = trace.stop == "error"
        ended = trace.stop is not None and not broken
        return Transition(self._observe(), correct - self._price * cost, ended, broken, info)

    async def _see(self) -> None:
        if self.trace.stop is None:
            await self._grow(self._engine.look(self.trace, self._look))

    async def _grow(self, change: Coroutine[Any, Any, Trace]) -> None:
        """Apply a change to the chain; a model that fails ends it."""
        try:
            self.trace = await change
        except BackendError as error:
            self.trace = failed(self.trace, error)

    def _observe(self) -> Observation:
        models = self._engine.models
        features = observe(self.trace, models[0], models[-1])
        return np.append(features, np.float32(price_feature(self._price)))


def describe_observation() -> tuple[str, ...]:
    """Names of the observation's entries: the features of the trace, then the price."""
    return (*FEATURES, "price")
