"""Several estimators as one, calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from stepwise.scope.estimators.base import (
    Array,
    Beliefs,
    Charge,
    Estimator,
    Rows,
    free,
    logit,
    sigmoid,
    spread,
)
from stepwise.scope.estimators.difficulty import PooledDifficulty
from stepwise.scope.estimators.neighbours import Neighbours
from stepwise.scope.known import Compared, Known
from stepwise.types import add_usage

PRIOR = 20.0
"""Pulls the weights towards equal ones that sum to 1: what that many undecided outcomes would say."""


@dataclass
class Combination:
    """A logistic regression on the members' logits, fitted on their held-out predictions.

    One set of weights serves all models, so that a new model gets them too (Platt scaling, generalised to
    several inputs). Lengths are combined by weights in inverse proportion to the squared error of ln(tokens).
    """

    members: Sequence[Estimator] = field(default_factory=lambda: [PooledDifficulty(), Neighbours()])
    name: str = "combined"

    @property
    def asks(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(model for member in self.members for model in member.asks))

    def fit(self, known: Known) -> Self:
        held = [member.fit(known).held_out() for member in self.members]
        logs = np.log(known.tokens)
        self._weights = _stack(np.stack([logit(beliefs.value) for beliefs in held], axis=-1), known.value)
        errors = [np.nanmean((logs - np.log(beliefs.tokens)) ** 2) + 1e-9 for beliefs in held]
        self._shares = (1 / np.array(errors)) / (1 / np.array(errors)).sum()
        self._quantiles = spread(logs, self._log_tokens(held))
        self._held = self._mix(held, np.arange(len(known.models)))
        return self

    def held_out(self) -> Beliefs:
        return self._held

    def predict(self, questions: Compared, models: Rows, charge: Charge = free) -> Beliefs:
        return self._mix([member.predict(questions, models, charge) for member in self.members], models)

    def _log_tokens(self, parts: Sequence[Beliefs]) -> Array:
        return sum(
            (share * np.log(part.tokens) for share, part in zip(self._shares, parts, strict=True)),
            np.array(0.0),
        )

    def _mix(self, parts: Sequence[Beliefs], rows: Rows) -> Beliefs:
        logits = np.stack([logit(part.value) for part in parts], axis=-1)
        value = sigmoid(self._weights[0] + logits @ self._weights[1:])
        logs = self._log_tokens(parts)
        low, high = self._quantiles[rows].T[:, :, None]
        explanations = next((part.explanations for part in parts if part.explanations is not None), None)
        spent = [part.usage for part in parts if part.usage is not None]
        usage = [[add_usage(*cell) for cell in zip(*row, strict=True)] for row in zip(*spent, strict=True)]
        return Beliefs(
            value, np.exp(logs), np.exp(logs + low), np.exp(logs + high), explanations, usage or None
        )


def _stack(logits: Array, value: Array) -> Array:
    """(intercept, weight per member) of a penalised logistic regression of outcomes [m, n] in [0, 1]."""
    seen = ~np.isnan(value)
    x, y = logits[seen], value[seen]
    design = np.column_stack([np.ones(len(x)), x])
    prior = np.array([0.0, *np.full(x.shape[1], 1 / x.shape[1])])
    stiffness = PRIOR * np.diag([1.0, *(x**2).mean(axis=0)]) / 4
    weights = prior.copy()
    for _ in range(30):
        p = sigmoid(design @ weights)
        pull = design.T @ (y - p) - stiffness @ (weights - prior)
        weights += np.linalg.solve((design * (p * (1 - p))[:, None]).T @ design + stiffness, pull)
    return weights
