"""How hard a question is, learned from every fingerprint in the store, and how a model takes that."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np

from stepwise.scope.estimators.base import Array, Beliefs, Charge, Rows, free, row_mean, sigmoid, spread
from stepwise.scope.estimators.regression import Regression, Spectrum
from stepwise.scope.known import Compared, Known


@dataclass
class PooledDifficulty:
    """Item response theory with a difficulty that is read off the question.

    Step 1: the Rasch model (Rasch 1960), P(m right on j) = sigmoid(ability_m - difficulty_j), fitted to all
    fingerprints at once gives every anchor a difficulty. Step 2: kernel ridge regression predicts it from the
    question; its penalty minimises the leave-one-out error, which has a closed form. Step 3: each model gets
    a curve of its own over the *predicted* difficulty, P = sigmoid(a_m - s_m d), fitted on leave-one-out
    predictions, so that it is as steep as the prediction is good. Slopes are shrunk toward their common
    value. A new model needs step 3 alone. Lengths go the same way: ln(tokens) = a_m + s_m l, with a predicted
    length l in the place of the difficulty.

    Args:
        slope_strength: how many anchors' worth of evidence the common slope counts.
    """

    slope_strength: float = 50.0
    name: str = "difficulty"
    asks: ClassVar[tuple[str, ...]] = ()
    _known: Known = field(init=False, repr=False)

    def fit(self, known: Known) -> Self:
        """Fit steps 1 to 3."""
        self._known = known
        spectrum = Spectrum(known.among.kernel)
        self._difficulty = Regression(spectrum, rasch(known.value))
        logs = np.log(known.tokens)
        self._length = Regression(
            spectrum, _column_mean(logs - row_mean(logs, float(np.nanmean(logs)))[:, None])
        )
        self._curves = logistic(-self._difficulty.held_out, known.value, self.slope_strength)
        self._lines = linear(self._length.held_out, logs, self.slope_strength)
        rows = np.arange(len(known.models))
        self._quantiles = spread(logs, self._logs(self._length.held_out, rows))
        return self

    def held_out(self) -> Beliefs:
        """From difficulties and lengths predicted without the anchor's own, [m, n]."""
        rows = np.arange(len(self._known.models))
        return self._beliefs(self._difficulty.held_out, self._length.held_out, rows)

    def predict(self, questions: Compared, models: Rows, charge: Charge = free) -> Beliefs:
        """From the difficulty and length that the question suggests, [models, questions]."""
        near = questions.kernel
        return self._beliefs(self._difficulty.at(near), self._length.at(near), models)

    def _logs(self, length: Array, rows: Rows) -> Array:
        intercept, slope = self._lines[rows].T
        return np.asarray(intercept[:, None] + slope[:, None] * length)

    def _beliefs(self, difficulty: Array, length: Array, rows: Rows) -> Beliefs:
        intercept, slope = self._curves[rows].T
        logs = self._logs(length, rows)
        low, high = self._quantiles[rows].T[:, :, None]
        value = sigmoid(intercept[:, None] - slope[:, None] * difficulty)
        return Beliefs(value, np.exp(logs), np.exp(logs + low), np.exp(logs + high))


def rasch(value: Array, *, ability_variance: float = 4.0, difficulty_variance: float = 4.0) -> Array:
    """Difficulties [n] with mean 0 from outcomes [m, n] in [0, 1] (nan: unseen): maximum a posteriori.

    Newton steps for abilities and difficulties in turn, under normal priors.
    """
    seen = ~np.isnan(value)
    filled = np.where(seen, value, 0.0)
    ability, difficulty = np.zeros(len(value)), np.zeros(value.shape[1])
    for _ in range(30):
        for axis, theta, variance, sign in (
            (1, ability, ability_variance, 1.0), (0, difficulty, difficulty_variance, -1.0)
        ):  # fmt: skip
            p = sigmoid(ability[:, None] - difficulty)
            slope = sign * np.where(seen, filled - p, 0.0).sum(axis=axis) - theta / variance
            curvature = np.where(seen, p * (1 - p), 0.0).sum(axis=axis) + 1 / variance
            theta += np.clip(slope / curvature, -1.0, 1.0)
    return np.asarray(difficulty - difficulty.mean())


def logistic(x: Array, value: Array, strength: float) -> Array:
    """(intercept, slope) [m, 2] of P = sigmoid(a + s x) for each row of outcomes [m, n] in [0, 1].

    First one slope for all rows, then each its own under a normal prior around the common one, worth
    ``strength`` observations. Slopes stay at least 0.
    """
    seen = ~np.isnan(value)
    filled = np.where(seen, value, 0.0)
    count = np.maximum(seen.sum(axis=1), 1)
    scale = float(np.var(x)) + 1e-9
    a, s = np.zeros(len(value)), np.zeros(len(value))
    common, together = 0.0, True
    for step in range(60):
        p = sigmoid(a[:, None] + s[:, None] * x)
        missed, weight = np.where(seen, filled - p, 0.0), np.where(seen, p * (1 - p), 0.0)
        together = step < 30
        a += np.clip((missed.sum(axis=1) - 0.1 * a) / (weight.sum(axis=1) + 0.1), -1, 1)
        if together:
            pull, stiff = (missed * x).sum() - 0.25 * common, (weight * x**2).sum() + 0.25
            common = max(0.0, common + float(np.clip(pull / stiff, -1, 1)))
            s[:] = common
        else:
            prior = strength * scale * (weight.sum(axis=1) / count)
            pull = (missed * x).sum(axis=1) - prior * (s - common)
            s = np.maximum(0.0, s + np.clip(pull / ((weight * x**2).sum(axis=1) + prior + 1e-9), -1, 1))
    return np.column_stack([a, s])


def linear(x: Array, y: Array, strength: float) -> Array:
    """(intercept, slope) [m, 2] of y = a + s x for each row of y [m, n] (nan: unseen).

    Slopes are shrunk toward the common one, which counts as ``strength`` observations.
    """
    seen = ~np.isnan(y)
    count = np.maximum(seen.sum(axis=1), 1)
    x_mean = (seen * x).sum(axis=1) / count
    y_mean = row_mean(y, float(np.nanmean(y)), 0.01)
    dx = np.where(seen, x - x_mean[:, None], 0.0)
    dy = np.where(seen, y - y_mean[:, None], 0.0)
    prior = strength * float(np.var(x)) + 1e-9
    common = max(0.0, float((dx * dy).sum() / ((dx**2).sum() + prior)))
    slope = ((dx * dy).sum(axis=1) + prior * common) / ((dx**2).sum(axis=1) + prior)
    return np.column_stack([y_mean - slope * x_mean, slope])


def _column_mean(values: Array) -> Array:
    """Mean of each column without nan; 0 where nobody has answered."""
    count = (~np.isnan(values)).sum(axis=0)
    return np.asarray(np.nansum(values, axis=0) / np.maximum(count, 1))
