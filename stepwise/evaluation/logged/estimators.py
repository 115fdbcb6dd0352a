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
    """What the target costs as a share of what the most expensive model alone would cost for the same texts,
    by estimator: a ratio of two estimates, which both grow with the length of the chains."""
    sums = _sums(weighed, replicates, seed)
    spent, alone = (
        _by_estimator(sums, weighed, rewards) for rewards in (weighed.cost, weighed.last(weighed.alone))
    )
    return {name: _value(_ratio(spent[name], alone[name])) for name in spent}


def accuracy(weighed: Weighed, *, replicates: int = REPLICATES, seed: int = 0) -> dict[str, Value]:
    """The target's accuracy, by estimator, from the chains whose answers somebody has judged."""
    known = weighed.rows(~np.isnan(weighed.correct))
    estimates = _by_estimator(_sums(known, replicates, seed), known, known.last(known.correct))
    return {name: _value(replicated) for name, replicated in estimates.items()}


def _sums(weighed: Weighed, replicates: int, seed: int) -> _Sums:
    counts = np.ones((1, len(weighed)))
    if replicates:
        rng = np.random.default_rng(seed)
        even = np.full(len(weighed), 1 / len(weighed))
        counts = np.vstack([counts, rng.multinomial(len(weighed), even, replicates)])
    return _Sums(counts, _cumulated(weighed))


def _by_estimator(sums: _Sums, weighed: Weighed, rewards: Array) -> dict[str, Array]:
    """The estimate on the chains as they are, and on each resample: [B]."""
    return {
        PER_DECISION: sums.weighted(rewards).sum(1) / len(weighed),
        SELF_NORMALISED: sums.normalised(rewards),
        DOUBLY_ROBUST: sums.doubly_robust(rewards, fitted(weighed, rewards)),
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
        expected: Array = _ratio(self._counts @ (self._before * values.state), self._counts @ self._before)
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
    quotient: Array = np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)
    return quotient


def _value(replicates: Array) -> Value:
    """The first is of the chains as they are."""
    known = replicates[1:] if len(replicates) > 1 else replicates
    known = known[~np.isnan(known)]
    low, high = np.percentile(known, LEVELS) if len(known) else (np.nan, np.nan)
    return Value(float(replicates[0]), (float(low), float(high)))
