"""Several estimators as one, calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
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
from stepwise.scope.estimators.ridge import ModelRidge
from stepwise.scope.known import Compared, Known
from stepwise.types import add_usage

PRIOR = 20.0
"""Pulls the weights towards equal ones that sum to 1: what that many undecided outcomes would say."""
FOLDS = 5
K = (6, 10, 20, 40, 80)


@dataclass(frozen=True)
class Candidate:
    """Some of the members, calibrated together.

    Attributes:
        members: their names.
        loss: mean log loss on anchors that the weights were not fitted to.
        share: of the weights that are taken.
    """

    members: tuple[str, ...]
    loss: float
    share: float


@dataclass
class Combination:
    """Logistic regressions on the logits of every choice of members, averaged by held-out loss.

    Members predict every anchor without its own outcomes. For each set of them a logistic regression on those
    predictions is fitted to all models at once, so that a new model gets the weights too (Platt scaling,
    generalised to several inputs), and judged by its log loss on folds of anchors. The weights of a set count
    in proportion to exp(-total loss), as posterior probabilities would (pseudo-BMA, Yao et al. 2018): a set
    that is clearly worse on this store has no part, sets that are as good share. Lengths are combined by
    weights in inverse proportion to the squared error of ln(tokens).

    Attributes:
        candidates: the sets of members with their losses and shares, the best first, once fitted.
    """

    members: Sequence[Estimator] = field(
        default_factory=lambda: [PooledDifficulty(), ModelRidge(), Neighbours(K)]
    )
    name: str = "combined"
    candidates: tuple[Candidate, ...] = field(init=False, repr=False, default=())

    @property
    def asks(self) -> tuple[str, ...]:
        """Every model that a member asks."""
        return tuple(dict.fromkeys(model for member in self.members for model in member.asks))

    def fit(self, known: Known) -> Self:
        """Fit the members, then their weights on what they predict of anchors held out."""
        held = [member.fit(known).held_out() for member in self.members]
        logs = np.log(known.tokens)
        self._weights = self._average(
            np.stack([logit(beliefs.value) for beliefs in held], axis=-1), known.value
        )
        errors = [np.nanmean((logs - np.log(beliefs.tokens)) ** 2) + 1e-9 for beliefs in held]
        self._shares = (1 / np.array(errors)) / (1 / np.array(errors)).sum()
        self._quantiles = spread(logs, self._log_tokens(held))
        self._held = self._mix(held, np.arange(len(known.models)))
        return self

    def _average(self, logits: Array, value: Array) -> Array:
        """(intercept, weight per member): the mean over all sets of members."""
        sets = [
            list(places)
            for size in range(1, len(self.members) + 1)
            for places in combinations(range(len(self.members)), size)
        ]
        losses = np.array([held_out_loss(logits[..., places], value) for places in sets])
        count = (~np.isnan(value)).sum()
        shares = np.exp(count * (losses.min() - losses))
        shares /= shares.sum()
        weights = np.zeros((len(sets), len(self.members) + 1))
        for row, places in zip(weights, sets, strict=True):
            row[[0, *(place + 1 for place in places)]] = _stack(logits[..., places], value)
        named = [tuple(self.members[place].name for place in places) for places in sets]
        listed = sorted(zip(losses.tolist(), named, shares.tolist(), strict=True))
        self.candidates = tuple(Candidate(names, loss, share) for loss, names, share in listed)
        return np.asarray(shares @ weights)

    def held_out(self) -> Beliefs:
        """Of every anchor [m, n], by members that were not told its outcomes; the weights were."""
        return self._held

    def predict(self, questions: Compared, models: Rows, charge: Charge = free) -> Beliefs:
        """The members' predictions, weighted, [models, questions]."""
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


def held_out_loss(logits: Array, value: Array) -> float:
    """Mean log loss of outcomes [m, n] by logits [m, n, members], on folds of anchors left out in turn."""
    n = value.shape[1]
    fold = np.random.default_rng(0).permutation(n) % min(FOLDS, n)
    p = np.empty_like(value)
    for part in range(fold.max() + 1):
        out = fold == part
        weights = _stack(logits[:, ~out], value[:, ~out]) if n > 1 else _prior(logits.shape[-1])
        p[:, out] = sigmoid(weights[0] + logits[:, out] @ weights[1:])
    return float(-np.nanmean(value * np.log(p) + (1 - value) * np.log(1 - p)))


def _prior(members: int) -> Array:
    return np.array([0.0, *np.full(members, 1 / members)])


def _stack(logits: Array, value: Array) -> Array:
    """(intercept, weight per member) of a penalised logistic regression of outcomes [m, n] in [0, 1]."""
    seen = ~np.isnan(value)
    x, y = logits[seen], value[seen]
    design = np.column_stack([np.ones(len(x)), x])
    prior = _prior(x.shape[1])
    stiffness = PRIOR * np.diag([1.0, *(x**2).mean(axis=0) + 1e-9]) / 4  # also where a member says nothing
    weights = prior.copy()
    for _ in range(30):
        p = sigmoid(design @ weights)
        pull = design.T @ (y - p) - stiffness @ (weights - prior)
        step = np.linalg.solve((design * (p * (1 - p))[:, None]).T @ design + stiffness, pull)
        weights += step
        if np.abs(step).max() < 1e-9:
            break
    return weights
