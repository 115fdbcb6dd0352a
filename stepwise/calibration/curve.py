"""The accuracy and cost of a router by threshold, measured on a calibration split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from stepwise.errors import ConfigError, InfeasibleTarget

Z95 = 1.6449
"""One-sided 95% quantile of the normal distribution."""


@dataclass(frozen=True)
class Curve:
    """One entry per threshold; costs are fractions of the mean cost of large-only.

    Attributes:
        thresholds: ascending.
        accuracy: share of problems answered right.
        cost: mean cost fraction.
        cost_upper: one-sided 95% upper confidence bound of the mean cost fraction.
        n: problems in the calibration split.
        split: hash of their ids.
    """

    thresholds: tuple[float, ...]
    accuracy: tuple[float, ...]
    cost: tuple[float, ...]
    cost_upper: tuple[float, ...]
    n: int
    split: str

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Curve:
        lists = {name: tuple(record[name]) for name in ("thresholds", "accuracy", "cost", "cost_upper")}
        return cls(**lists, n=int(record["n"]), split=str(record["split"]))

    def threshold_for(self, budget: float) -> float:
        """The threshold with the best accuracy whose cost stays within a budget.

        A threshold qualifies when the upper bound of its mean cost is at most the budget, so the
        expected cost exceeds it with a probability of about 5% at most for any one threshold.
        (Choosing among thresholds costs a little of that; Learn-then-Test would not.)

        Args:
            budget: fraction of large-only cost, in (0, 1].

        Raises:
            ConfigError: if the budget lies outside (0, 1].
            InfeasibleTarget: if no threshold qualifies; names the lowest budget that one does.
        """
        if not 0.0 < budget <= 1.0:
            raise ConfigError(f"budget must lie in (0, 1] (a fraction of large-only cost), not {budget:g}.")
        fits = [i for i, upper in enumerate(self.cost_upper) if upper <= budget]
        if not fits:
            least = min(self.cost_upper)
            raise InfeasibleTarget(
                f"budget {budget:g} cannot be met: the least that this router spends is {least:.3f} "
                "of large-only cost; ask for that or more.",
                best=least,
            )
        return self.thresholds[max(fits, key=lambda i: (self.accuracy[i], -self.cost[i]))]


def measure_curve(
    thresholds: Sequence[float], correct: ArrayLike, cost: ArrayLike, large_cost: ArrayLike, split: str
) -> Curve:
    """Summarise per-problem results on the calibration split.

    Args:
        thresholds: T of them, ascending.
        correct: [T, n] of 0 and 1.
        cost: [T, n] in any unit.
        large_cost: [n] cost of large-only on the same problems, in the same unit.
        split: hash of the problems' ids.

    The bound is of a ratio of means, by the delta method over problems.
    """
    right, spent = np.asarray(correct, float), np.asarray(cost, float)
    reference = np.asarray(large_cost, float)
    n = reference.size
    ratio = spent.mean(1) / reference.mean()
    residual = (spent - ratio[:, None] * reference) / reference.mean()
    upper = ratio + Z95 * residual.std(1, ddof=1) / np.sqrt(n)
    return Curve(
        tuple(float(t) for t in thresholds),
        tuple(right.mean(1).tolist()),
        tuple(ratio.tolist()),
        tuple(upper.tolist()),
        n,
        split,
    )
