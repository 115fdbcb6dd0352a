"""What another policy would have reached, from the chains of the one that was logged.

A chain is an episode: decision t = 1..T was taken with probability b_t by the log's policy and would be with
pi_t by the target; it brought the reward r_t (its cost, or with the last one whether the answer is right).
With W_t = (pi_1 / b_1) ... (pi_t / b_t):

- `PER_DECISION`: mean of sum_t W_t r_t (per-decision importance sampling: Precup, Sutton & Singh 2000,
  "Eligibility traces for off-policy policy evaluation", section 3). Unbiased.
- `SELF_NORMALISED`: sum_t (sum_i W_t r_t) / (sum_i W_t) (weighted per-decision, ibid.). Consistent; a value
  stays within the range of the rewards, and the variance is less.
- `DOUBLY_ROBUST`: the same weights w_t = W_t / sum_i W_t around fitted values Q and V,
  sum_i sum_t [w_t r_t - (w_t Q(s_t, a_t) - w_{t-1} V(s_t))] (weighted doubly robust: Thomas & Brunskill 2016,
  "Data-efficient off-policy policy evaluation for reinforcement learning", section 4, after Jiang & Li 2016,
  "Doubly robust off-policy value evaluation for reinforcement learning", equation 10).

Intervals are percentile bootstraps over chains, with Q and V as they were fitted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stepwise.evaluation.logged.values import Values, fitted
from stepwise.evaluation.logged.weighed import Array, Weighed

PER_DECISION, SELF_NORMALISED, DOUBLY_ROBUST = "per-decision", "self-normalised", "doubly robust"
REPLICATES = 1000
LEVELS = (2.5, 97.5)  # percent: the two ends of a 95% interval
MIN_EFFECTIVE = 100.0
"""Effective chains below which nothing is said: an accuracy is then off by 10 points one time in twenty."""
MAX_BARRED = 0.01
"""Share of the target's chains that may lead where the log never went."""


@dataclass(frozen=True)
class Value:
    """An estimate with its 95% interval."""

    value: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Evidence:
    """How much a log says of a target.

    Attributes:
        chains: that count.
        effective: Kish's effective sample size, (sum W_T)^2 / sum W_T^2.
        barred: share of the target's chains that come to a decision which the log could not have taken.
    """

    chains: int
    effective: float
    barred: float

    @property
    def silent(self) -> str:
        """Why nothing can be said; "" where something can."""
        if self.barred > MAX_BARRED:
            return f"{self.barred:.0%} of its chains come to a choice that the log never makes"
        if self.effective < MIN_EFFECTIVE:
            return f"{self.chains} chains are worth {self.effective:.0f}, fewer than {MIN_EFFECTIVE:.0f}"
        return ""


def evidence(weighed: Weighed) -> Evidence:
    """How much there is to go by."""
    weights = _cumulated(weighed)
    last, before = weights[:, -1], _before(weights)
    squares = float((last**2).sum())
    effective = float(last.sum()) ** 2 / squares if squares else 0.0
    return Evidence(len(weighed), effective, float((before * weighed.barred).sum(1).mean()))


def cost(weighed: Weighed, *, replicates: int = REPLICATES, seed: int = 0) -> dict[str, Value]:
    """The target's mean cost a chain, by estimator."""
    return _estimates(weighed, weighed.cost, replicates, seed)


def accuracy(weighed: Weighed, *, replicates: int = REPLICATES, seed: int = 0) -> dict[str, Value]:
    """The target's accuracy, by estimator, from the chains whose answers somebody has judged."""
    known = weighed.rows(~np.isnan(weighed.correct))
    last = known.alive.sum(1) - 1
    rewards = np.zeros_like(known.cost)
    rewards[np.arange(len(known)), last] = known.correct
    return _estimates(known, rewards, replicates, seed)


def _estimates(weighed: Weighed, rewards: Array, replicates: int, seed: int) -> dict[str, Value]:
    counts = np.ones((1, len(weighed)))
    if replicates:
        rng = np.random.default_rng(seed)
        even = np.full(len(weighed), 1 / len(weighed))
        counts = np.vstack([counts, rng.multinomial(len(weighed), even, replicates)])
    sums = _Sums(counts, _cumulated(weighed))
    values = fitted(weighed, rewards)
    return {
        PER_DECISION: _value(sums.weighted(rewards).sum(1) / len(weighed)),
        SELF_NORMALISED: _value(sums.normalised(rewards)),
        DOUBLY_ROBUST: _value(sums.doubly_robust(rewards, values)),
    }


class _Sums:
    """Weighted sums over resampled chains: ``counts`` [B, n] says how often each chain is in a resample."""

    def __init__(self, counts: Array, weights: Array) -> None:
        self._counts, self._weights, self._before = counts, weights, _before(weights)

    def weighted(self, rewards: Array) -> Array:
        """Sum of W_t r_t over chains, [B, T]."""
        summed: Array = self._counts @ (self._weights * rewards)
        return summed

    def normalised(self, rewards: Array) -> Array:
        """[B]"""
        means: Array = _ratio(self.weighted(rewards), self._counts @ self._weights).sum(1)
        return means

    def doubly_robust(self, rewards: Array, values: Values) -> Array:
        """[B]"""
        expected = _ratio(self._counts @ (self._before * values.state), self._counts @ self._before)
        means: Array = self.normalised(rewards - values.action) + expected.sum(1)
        return means


def _cumulated(weighed: Weighed) -> Array:
    """W_t, [n, T]."""
    weights: Array = np.cumprod(weighed.ratio, 1)
    return weights


def _before(weights: Array) -> Array:
    """The weight with which each decision is come to."""
    return np.hstack([np.ones((len(weights), 1)), weights[:, :-1]])


def _ratio(above: Array, below: Array) -> Array:
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


def _value(replicates: Array) -> Value:
    """The first is of the chains as they are."""
    known = replicates[1:] if len(replicates) > 1 else replicates
    known = known[~np.isnan(known)]
    low, high = np.percentile(known, LEVELS) if len(known) else (np.nan, np.nan)
    return Value(float(replicates[0]), (float(low), float(high)))
