"""What a model is worth to a question: value less cost, or SCOPE's utility."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import pairwise
from typing import Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from stepwise.errors import ConfigError

Array = NDArray[np.float64]
T = TypeVar("T")
Rule = Literal["net", "utility"]
RULES: tuple[Rule, ...] = get_args(Rule)
CostScale = Literal["log", "linear"]
GRID, POINTS = 21, 201
FINEST = 1e-7
GAMMA_BASE = 2.0
W_BASE = 0.2
"""Weight of the anchors' own record beside the estimator: 0.2 in the paper, 0.3 in its code."""


def net_value(value: Array, cost: Array, alpha: float, dearest: float) -> Array:
    """Value less cost [models, questions]; the model with the largest answers the question::

        N = alpha * value - (1 - alpha) * cost / dearest

    Of all rules with the same mean cost this one has the largest mean value, where values and costs are the
    true expectations: it is the Lagrangian of that problem.

    Args:
        value: expected, in [0, 1]. Likewise ``cost``, > 0.
        alpha: 0 looks at cost alone, 1 at value alone; between, a right answer is worth
            ``dearest * alpha / (1 - alpha)``.
        dearest: a cost to compare with, such as the mean of the dearest candidate.

    Raises:
        ConfigError: if alpha is outside [0, 1].
    """
    check_share("alpha", alpha)
    return np.asarray(alpha * value - (1 - alpha) * cost / dearest)


def utility(
    anchor_value: Array,
    anchor_cost: Array,
    value: Array,
    cost: Array,
    alpha: float,
    w_base: float = W_BASE,
    scale: CostScale = "log",
    gamma_base: float = GAMMA_BASE,
) -> Array:
    """Utilities [models, questions] (arXiv 2601.22323, decision rule of the public code); the model with the
    largest answers the question.

    With min-max over the candidate models of one question (0.5 where all are equal)::

        s_cal  = alpha * minmax(anchor_value) + (1 - alpha) * (1 - minmax(ln anchor_cost)) ^ gamma
        s_pred = alpha * value                + (1 - alpha) * (1 - minmax(ln cost)) ^ gamma
        gamma  = 2 (1 + 2 (1 - alpha)),   w = w_base (0.5 + 0.5 alpha)
        U      = w s_cal + (1 - w) s_pred

    Args:
        anchor_value: from the anchors near the question, in [0, 1]. Likewise ``anchor_cost``, > 0.
        value: the estimator's, in [0, 1]. Likewise ``cost``.
        alpha: 0 looks at cost alone, 1 at value alone.
        w_base: 0 leaves the anchors' record out.
        scale: of ``cost``. "linear" is what the released code does with predicted costs: min-max of the costs
            themselves over all questions that are given, so that one expensive answer moves the choice on
            every other question, and the choice for one question depends on its batch.
        gamma_base: 2 in the paper, as in the formula above.

    Raises:
        ConfigError: if alpha or w_base is outside [0, 1].
    """
    for name, given in (("alpha", alpha), ("w_base", w_base)):
        check_share(name, given)
    gamma = gamma_base * (1 + 2 * (1 - alpha))
    weight = w_base * (0.5 + 0.5 * alpha)
    from_anchors = alpha * min_max(anchor_value) + (1 - alpha) * _thrift(anchor_cost) ** gamma
    thrift = _thrift(cost) if scale == "log" else 1 - min_max(cost.reshape(-1)).reshape(cost.shape)
    predicted = alpha * value + (1 - alpha) * thrift**gamma
    return np.asarray(weight * from_anchors + (1 - weight) * predicted)


def check_share(name: str, given: float) -> None:
    """
    Raises:
        ConfigError: if a value is outside [0, 1].
    """
    if not 0.0 <= given <= 1.0:
        raise ConfigError(f"{name} must lie in [0, 1], not {given:g}.")


def min_max(values: Array) -> Array:
    """Each column [models] stretched to [0, 1]; 0.5 where all its values are equal."""
    low, high = values.min(axis=0), values.max(axis=0)
    wide = high - low > 1e-12
    return np.asarray(np.where(wide, (values - low) / np.where(wide, high - low, 1.0), 0.5))


def _thrift(cost: Array) -> Array:
    return 1 - min_max(np.log(np.maximum(cost, 1e-12)))


def sweep(at: Callable[[float], T], cost: Callable[[T], float]) -> list[T]:
    """What alphas from 0 to 1 give, in their order.

    Most questions change their model within a narrow range of alpha, which differs from pool to pool. From an
    even grid of 21 on, the widest steps in cost are halved until there are 201 points.
    """
    points = {alpha: at(alpha) for alpha in np.linspace(0.0, 1.0, GRID).tolist()}
    ends = sorted(points)
    gaps = [(-abs(cost(points[b]) - cost(points[a])), a, b) for a, b in pairwise(ends)]
    heapq.heapify(gaps)
    while gaps and len(points) < POINTS:
        gap, a, b = heapq.heappop(gaps)
        if gap == 0.0 or b - a < FINEST:
            continue
        middle = (a + b) / 2
        points[middle] = at(middle)
        for left, right in ((a, middle), (middle, b)):
            heapq.heappush(gaps, (-abs(cost(points[right]) - cost(points[left])), left, right))
    return [points[alpha] for alpha in sorted(points)]
