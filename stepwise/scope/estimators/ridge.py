"""What kind of question each model is good at, from its own answers alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np

from stepwise.scope.estimators.base import Array, Beliefs, Charge, Rows, free, sigmoid, spread
from stepwise.scope.estimators.regression import Regression, Spectrum
from stepwise.scope.known import Compared, Known


@dataclass
class ModelRidge:
    """Kernel ridge regression of every model's outcomes on the questions, each model by itself.

    The penalty minimises the model's own leave-one-out error, which has a closed form (`Regression`). It wins
    where few models are specialised: there is no one scale of difficulty then. ln(tokens) go the same way.
    """

    name: str = "ridge"
    asks: ClassVar[tuple[str, ...]] = ()
    _quantiles: Array = field(init=False, repr=False)

    def fit(self, known: Known) -> Self:
        """One regression a model for the outcome, one for ln(tokens)."""
        logs = np.log(known.tokens)
        self._value = _Rows(known.among.kernel, known.value)
        self._logs = _Rows(known.among.kernel, logs)
        self._quantiles = spread(logs, self._logs.held_out)
        return self

    def held_out(self) -> Beliefs:
        """Leave-one-out predictions, [m, n]."""
        return self._beliefs(self._value.held_out, self._logs.held_out, np.arange(len(self._quantiles)))

    def predict(self, questions: Compared, models: Rows, charge: Charge = free) -> Beliefs:
        """By each model's own regressions, [models, questions]."""
        near = questions.kernel
        return self._beliefs(self._value.at(near, models), self._logs.at(near, models), models)

    def _beliefs(self, value: Array, logs: Array, rows: Rows) -> Beliefs:
        low, high = self._quantiles[rows].T[:, :, None]
        inside = np.clip(value, 1e-9, 1 - 1e-9)
        return Beliefs(
            sigmoid(np.log(inside / (1 - inside))), np.exp(logs), np.exp(logs + low), np.exp(logs + high)
        )


class _Rows:
    """A regression for each row of targets [m, n] (nan: unseen), with held-out predictions [m, n]; those for
    an anchor that a model has not answered need nothing left out."""

    def __init__(self, kernel: Array, targets: Array) -> None:
        whole = Spectrum(kernel)
        self._seen, self._fitted = [], []
        self.held_out = np.empty_like(targets)
        for row, target in enumerate(targets):
            seen = np.flatnonzero(~np.isnan(target))
            spectrum = whole if len(seen) == len(kernel) else Spectrum(kernel[np.ix_(seen, seen)])
            fitted = Regression(spectrum, target[seen])
            self.held_out[row] = fitted.at(kernel[:, seen])
            self.held_out[row, seen] = fitted.held_out
            self._seen.append(seen)
            self._fitted.append(fitted)

    def at(self, near: Array, rows: Rows) -> Array:
        """Predictions [rows, questions] from kernel values [questions, n]."""
        return np.stack([self._fitted[row].at(near[:, self._seen[row]]) for row in rows])
