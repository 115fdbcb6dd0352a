"""Routers that look at nothing but the position: the reference points of every comparison."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar, Literal

from stepwise.errors import ConfigError
from stepwise.types import Decision, Look, Trace


@dataclass(frozen=True)
class Always:
    """One model writes every step."""

    model: str
    look: Look = "before"
    whole: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """The model's."""
        return self.model

    @property
    def named(self) -> str:
        """The model, which nothing may replace; see `stepwise.types.named`."""
        return self.model

    def decide(self, trace: Trace) -> Decision:
        """The model, whatever the trace."""
        return Decision(self.model, reason="always")


@dataclass(frozen=True)
class Random:
    """Goes to ``large`` with probability ``p``: each step by itself, or each whole problem.

    By problem it walks the straight line between the two models. The draw depends on the seed, the
    problem and the position only, so that a rerun repeats it.
    """

    p: float
    per: Literal["step", "problem"] = "step"
    small: str = "small"
    large: str = "large"
    seed: int = 0
    name: str = "random"
    look: Look = "before"

    def __post_init__(self) -> None:
        if not 0.0 <= self.p <= 1.0:
            raise ConfigError(f"p must lie in [0, 1], not {self.p}.")
        if self.per not in ("step", "problem"):
            raise ConfigError(f"per must be 'step' or 'problem', not {self.per!r}.")

    @property
    def whole(self) -> bool:
        """Whether one draw decides for the whole problem."""
        return self.per == "problem"

    def decide(self, trace: Trace) -> Decision:
        """By a draw that a rerun repeats."""
        position = len(trace.steps) if self.per == "step" else 0
        draw = random.Random(f"{self.seed}-{trace.problem.id}-{position}").random()
        return Decision(self.large if draw < self.p else self.small, reason=f"random, p={self.p:g}")


@dataclass(frozen=True)
class LargeFirst:
    """``large`` writes the first ``k`` steps."""

    k: int
    small: str = "small"
    large: str = "large"
    name: str = "large_first"
    look: Look = "before"

    def decide(self, trace: Trace) -> Decision:
        """By the position alone."""
        first = len(trace.steps) < self.k
        return Decision(self.large if first else self.small, reason=f"first {self.k} steps to {self.large}")


@dataclass(frozen=True)
class SmallFirst:
    """``small`` writes the first ``k`` steps."""

    k: int
    small: str = "small"
    large: str = "large"
    name: str = "small_first"
    look: Look = "before"

    def decide(self, trace: Trace) -> Decision:
        """By the position alone."""
        first = len(trace.steps) < self.k
        return Decision(self.small if first else self.large, reason=f"first {self.k} steps to {self.small}")
