"""What the model did on the most similar anchors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

import numpy as np

from stepwise.scope.estimators.base import Array, Beliefs, Charge, Rows, free, row_mean, sigmoid, spread
from stepwise.scope.known import Compared, Known


@dataclass
class Neighbours:
    """Mean over the k nearest anchors, weighted by similarity squared.

    This is the calibration term of SCOPE (arXiv 2601.22323; k = 6), shrunk toward the model's mean as if that
    were one more neighbour of weight ``shrinkage``. Anchors that a model has not answered are left out.

    Attributes:
        k: how many; of several, the one with the least squared leave-one-out error is taken.
        taken: that one, once fitted.
    """

    k: int | Sequence[int] = 6
    shrinkage: float = 1.0
    name: str = "neighbours"
    asks: ClassVar[tuple[str, ...]] = ()
    taken: int = field(init=False, repr=False)
    _known: Known = field(init=False, repr=False)
    _quantiles: Array = field(init=False, repr=False)

    def fit(self, known: Known) -> Self:
        """Choose ``k``."""
        self._known = known
        self._logs = np.log(known.tokens)
        self._value_mean = row_mean(known.value, 0.5)
        every = float(np.nanmean(self._logs))
        self._log_mean = row_mean(self._logs, every)
        rows = np.arange(len(known.models))
        among, tried = but_oneself(known.among.similarity), [self.k] if isinstance(self.k, int) else self.k
        held = {k: self._near(among, rows, k) for k in tried}
        self.taken = min(held, key=lambda k: float(np.nanmean((known.value - held[k][0]) ** 2)))
        self._held_value, self._held_logs = held[self.taken]
        self._quantiles = spread(self._logs, self._held_logs)
        return self

    def held_out(self) -> Beliefs:
        """From each anchor's neighbours, itself left out, [m, n]."""
        return self._beliefs(self._held_value, self._held_logs, np.arange(len(self._known.models)))

    def predict(self, questions: Compared, models: Rows, charge: Charge = free) -> Beliefs:
        """From each question's nearest anchors, [models, questions]."""
        value, logs = self._near(questions.similarity, models, self.taken)
        return self._beliefs(value, logs, models)

    def _near(self, similarities: Array, rows: Rows, k: int) -> tuple[Array, Array]:
        """Weighted means of value and ln(tokens), [rows, questions], from similarities [questions, n]."""
        value, logs = np.empty((2, len(rows), len(similarities)))
        for at, row in enumerate(rows):
            seen = np.flatnonzero(self._known.seen[row])
            own = similarities[:, seen]
            best = np.argsort(-own, axis=1, kind="stable")[:, :k]
            near = np.take_along_axis(own, best, axis=1)
            weight = np.where(np.isfinite(near), np.maximum(near, 0.0), 0.0) ** 2
            total = weight.sum(axis=1) + self.shrinkage
            chosen = seen[best]
            for out, values, mean in (
                (value, self._known.value, self._value_mean), (logs, self._logs, self._log_mean)
            ):  # fmt: skip
                out[at] = ((weight * values[row, chosen]).sum(axis=1) + self.shrinkage * mean[row]) / total
        return value, logs

    def _beliefs(self, value: Array, logs: Array, rows: Rows) -> Beliefs:
        low, high = self._quantiles[rows].T[:, :, None]
        inside = sigmoid(np.log(np.clip(value, 1e-9, 1 - 1e-9) / (1 - np.clip(value, 1e-9, 1 - 1e-9))))
        return Beliefs(inside, np.exp(logs), np.exp(logs + low), np.exp(logs + high))


def but_oneself(similarities: Array) -> Array:
    """[n, n] with -inf on the diagonal: no anchor is its own neighbour."""
    return np.asarray(np.where(np.eye(len(similarities), dtype=bool), -np.inf, similarities))
