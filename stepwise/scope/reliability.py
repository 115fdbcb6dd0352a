"""How sure a probability is: how often forecasts like it came true on the anchors."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
ALIKE = 50
"""Forecasts on anchors that count as like a new one."""
COVERAGE = 0.9


class Reliability:
    """Intervals around probabilities, per model.

    The anchors with the `ALIKE` nearest held-out forecasts of the same model are taken as draws of one
    probability; the interval is its central 90% under Jeffreys' prior, Beta(1/2, 1/2) (Brown, Cai and
    DasGupta 2001), stretched to hold the forecast.

    Args:
        forecasts: [m, n] for every anchor, made without its own outcome.
        outcomes: [m, n] in [0, 1]; nan where a model has not answered.
    """

    def __init__(self, forecasts: Array, outcomes: Array) -> None:
        self._forecasts = np.where(np.isnan(outcomes), np.inf, forecasts)
        self._outcomes = np.nan_to_num(outcomes)
        self._count = (~np.isnan(outcomes)).sum(axis=1)

    def interval(self, values: Array, rows: NDArray[np.intp]) -> tuple[Array, Array]:
        """Low and high, shaped as ``values`` [len(rows), q]."""
        from scipy.special import betaincinv

        right, total = np.empty((2, *values.shape))
        for at, row in enumerate(rows):
            n = min(ALIKE, int(self._count[row]))
            far = np.abs(self._forecasts[row] - values[at][:, None])
            near = np.argsort(far, axis=1, kind="stable")[:, :n]
            right[at], total[at] = self._outcomes[row][near].sum(axis=1), n
        shape = right + 0.5, total - right + 0.5
        tail = (1 - COVERAGE) / 2
        low, high = betaincinv(*shape, tail), betaincinv(*shape, 1 - tail)
        return np.minimum(low, values), np.maximum(high, values)
