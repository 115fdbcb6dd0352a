"""The model's own averages: what every other estimator has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from stepwise.scope.estimators.base import Array, Beliefs, Charge, Rows, free, row_mean, sigmoid, spread
from stepwise.scope.known import Compared, Known


@dataclass
class ModelMean:
    """Says of every question that it is like the average anchor."""

    name: str = "mean"
    asks: ClassVar[tuple[str, ...]] = ()

    def fit(self, known: Known) -> Self:
        """Take each model's averages."""
        logs = np.log(known.tokens)
        self._value = row_mean(known.value, 0.5)[:, None]
        self._logs = row_mean(logs, float(np.nanmean(logs)))[:, None]
        self._quantiles = spread(logs, np.broadcast_to(self._logs, logs.shape))
        self._anchors = known.value.shape[1]
        return self

    def held_out(self) -> Beliefs:
        """As `predict`: one anchor among many does not move a mean."""
        return self._repeat(self._anchors, np.arange(len(self._value)))

    def predict(self, questions: Compared, models: Rows, charge: Charge = free) -> Beliefs:
        """The averages, once a question, [models, questions]."""
        return self._repeat(len(questions.similarity), models)

    def _repeat(self, count: int, rows: Rows) -> Beliefs:
        low, high = self._quantiles[rows].T[:, :, None]
        logs = self._logs[rows]
        value, tokens, least, most = (
            np.repeat(column, count, axis=1)
            for column in (
                sigmoid_of(self._value[rows]),
                np.exp(logs),
                np.exp(logs + low),
                np.exp(logs + high),
            )
        )
        return Beliefs(value, tokens, least, most)


def sigmoid_of(p: Array) -> Array:
    """A probability within the floor."""
    return sigmoid(np.log(p / (1 - p)))
