"""The seam between SCOPE and whatever predicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from stepwise.scope.known import Compared, Known
from stepwise.types import Usage

Array = NDArray[np.float64]
Rows = NDArray[np.intp]
Charge = Callable[[str, Usage], None]
"""Told, by model, what an estimate takes, as soon as it is known."""
FLOOR = 0.01
"""Probabilities stay this far from 0 and 1: no fingerprint can tell more."""
COVERAGE = 0.9
"""Of the interval around a token estimate."""


def free(model: str, usage: Usage) -> None:
    """A `Charge` for estimates that no chain pays for."""


@dataclass(frozen=True)
class Beliefs:
    """Predictions, all arrays [models, questions].

    Attributes:
        value: expected objective; the probability of a right answer, for "correct".
        tokens: the length that is as likely to be exceeded as not.
        low: ``tokens``' interval (`COVERAGE`).
        high: likewise.
        explanations: in words, where the estimator gives any.
        usage: tokens that each took, by the model that was asked, where the estimator asks any.
    """

    value: Array
    tokens: Array
    low: Array
    high: Array
    explanations: Sequence[Sequence[str]] | None = None
    usage: Sequence[Sequence[Mapping[str, Usage]]] | None = None


class Estimator(Protocol):
    """Predicts how models will do on questions, from what they did on anchors."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    @property
    def asks(self) -> tuple[str, ...]:
        """Names of the models that it puts questions to, for what they take to be charged."""
        ...

    def fit(self, known: Known) -> Self:
        """Learn from every fingerprint; returns itself."""
        ...

    def held_out(self) -> Beliefs:
        """Predictions for every anchor [m, n], each made without the anchor's own outcomes."""
        ...

    def predict(self, questions: Compared, models: Rows, charge: Charge = free) -> Beliefs:
        """Predictions for new questions, of the models in these rows of what is known."""
        ...


def logit(p: Array) -> Array:
    """ln(p / (1 - p)), within the floor."""
    inside = np.clip(p, FLOOR, 1 - FLOOR)
    return np.asarray(np.log(inside / (1 - inside)))


def sigmoid(x: Array) -> Array:
    """A probability, within the floor."""
    return np.asarray(np.clip(1 / (1 + np.exp(-np.clip(x, -30, 30))), FLOOR, 1 - FLOOR))


def row_mean(values: Array, prior: float, strength: float = 1.0) -> Array:
    """Mean of each row [m, n] without nan, shrunk toward a prior that counts as ``strength`` values."""
    count = (~np.isnan(values)).sum(axis=1)
    return np.asarray((np.nansum(values, axis=1) + strength * prior) / (count + strength))


def spread(logs: Array, predicted: Array) -> Array:
    """Quantiles [m, 2] of what held-out predictions of ln(tokens) missed, both [m, n].

    The finite-sample correction of split conformal prediction (Vovk et al. 2005): with n residuals the
    quantile is at (n + 1) / n of its level.
    """
    tail = (1 - COVERAGE) / 2
    quantiles = np.zeros((len(logs), 2))
    for row, missed in enumerate(logs - predicted):
        missed = missed[~np.isnan(missed)]
        if len(missed):
            low = max(0.0, tail - (1 - tail) / len(missed))
            quantiles[row] = np.quantile(missed, [low, 1 - low])
    return quantiles
