"""From a budget to alpha, with a promise that holds on new questions and not only on the anchors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from stepwise.calibration.bounds import betting
from stepwise.errors import ConfigError, InfeasibleTarget

Array = NDArray[np.float64]
PRECISION = 1e-3
"""Of the least budget that can be promised, relative."""


@dataclass(frozen=True)
class Setting:
    """A value of alpha with what it gave on the anchors, each routed as if it was not known.

    Attributes:
        alpha: in [0, 1].
        value, cost: means over the anchors.
        costs: per anchor that the chosen model has answered.
    """

    alpha: float
    value: float
    cost: float
    costs: Array = field(default_factory=lambda: np.empty(0), repr=False, compare=False)


def promised(settings: Sequence[Setting], budget: float, delta: float) -> list[Setting]:
    """The settings that keep the ``budget`` on the mean of as many new questions as there are anchors; all do
    with probability 1 - delta.

    Learn then Test (arXiv 2110.01052) with fixed-sequence testing from alpha 0 on, and betting p-values: the
    first setting that fails ends the sequence. Costs are bounded by the largest that the pool had on an
    anchor under the setting: what a new question costs beyond that is taken to have negligible weight. The
    promise is about questions drawn as the anchors were.

    A test at delta would promise the expected cost. The mean of n new questions has chance of its own, as
    much as that of the n anchors, so that the margin has to be sqrt(2) times as wide.
    """
    passed: list[Setting] = []
    level = with_chance_of_their_own(delta)
    for setting in settings:
        cap = setting.costs.max()
        limit = budget / cap
        if limit < 1 and betting(setting.costs[None] / cap, limit, level)[0] > level:
            break
        passed.append(setting)
    return passed


def with_chance_of_their_own(delta: float) -> float:
    """The level of a test of the mean of n questions, so that the mean of n others is within its limit too,
    with probability 1 - ``delta``. Means of many questions are taken to be normal."""
    normal = NormalDist()
    return min(delta, normal.cdf(math.sqrt(2) * normal.inv_cdf(delta)))


def check_promise(budget: float, delta: float) -> None:
    """
    Raises:
        ConfigError: if the budget is not positive, or delta lies outside (0, 1).
    """
    if not budget > 0:
        raise ConfigError(f"budget must be a positive cost per question (in dollars), not {budget:g}.")
    if not 0.0 < delta < 1.0:
        raise ConfigError(f"delta must lie in (0, 1), not {delta:g}.")


def best_within(settings: Sequence[Setting], budget: float, delta: float) -> Setting:
    """The promised setting with the best value; the cheapest of equals.

    Raises:
        ConfigError: as `check_promise`.
        InfeasibleTarget: if none can be promised; ``best`` is the least budget that can.
    """
    check_promise(budget, delta)
    passed = promised(settings, budget, delta)
    if not passed:
        least = _least(settings[0], delta)
        raise InfeasibleTarget(
            f"budget: {budget:.3g} dollars per question cannot be promised from {len(settings[0].costs)} "
            f"anchors with delta {delta:g}; the least that can is {least:.3g} dollars.",
            best=least,
        )
    return max(passed, key=lambda setting: (setting.value, -setting.cost))


def _least(cheapest: Setting, delta: float) -> float:
    """The least budget at which the first of the sequence passes."""
    low, high = cheapest.cost, float(cheapest.costs.max())
    while high - low > PRECISION * high:
        middle = (low + high) / 2
        low, high = (low, middle) if promised([cheapest], middle, delta) else (middle, high)
    return high
