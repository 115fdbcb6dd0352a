"""How good predictions of correctness and length are, with intervals over questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

Array = NDArray[np.float64]
BINS = 10


@dataclass(frozen=True)
class Scored:
    """Predictions in one flat table: probability, outcome, question, model, split, |token error|, in
    interval."""

    p: Array
    y: Array
    question: NDArray[np.intp]
    model: NDArray[np.intp]
    error: Array
    covered: Array


Measure = Callable[[Scored, Array], float]


def _weighted(values: Callable[[Scored], Array]) -> Measure:
    return lambda scored, weight: float(np.average(values(scored), weights=weight))


MEASURES: Mapping[str, Measure] = {
    "accuracy": _weighted(lambda s: ((s.p > 0.5) == (s.y > 0.5)).astype(float)),
    "auc": lambda s, weight: float(roc_auc_score(s.y, s.p, sample_weight=weight)),
    "brier": _weighted(lambda s: (s.p - s.y) ** 2),
    "calibration_error": lambda s, weight: _calibration_error(s, weight),
    "token_mae": _weighted(lambda s: s.error),
    "interval_coverage": _weighted(lambda s: s.covered),
}


def measured(parts: Sequence[Scored], seed: int, which: NDArray[np.bool_]) -> dict[str, list[float]]:
    """Each measure as [value, low, high] over the predictions for some models. One resample of the questions
    serves all splits, models and measures."""
    every = _joined(parts)
    keep = which[every.model]
    some = Scored(*(getattr(every, name)[keep] for name in Scored.__dataclass_fields__))
    count = int(every.question.max()) + 1
    draws = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), 200).astype(float)
    out = {}
    for name, measure in MEASURES.items():
        value = measure(some, np.ones(len(some.p)))
        low, high = np.percentile([measure(some, draw[some.question]) for draw in draws], [2.5, 97.5])
        out[name] = [value, float(low), float(high)]
    return out


def _joined(parts: Sequence[Scored]) -> Scored:
    return Scored(
        *(np.concatenate([getattr(p, name) for p in parts]) for name in Scored.__dataclass_fields__)
    )


def _calibration_error(scored: Scored, weight: Array) -> float:
    """Mean gap between prediction and outcome over 10 bins of equal width, weighted by their size."""
    place = np.minimum((scored.p * BINS).astype(int), BINS - 1)
    gaps = np.bincount(place, weight * (scored.p - scored.y), minlength=BINS)
    return float(np.abs(gaps).sum() / weight.sum())


def reliability(parts: Sequence[Scored]) -> list[list[float]]:
    """Per bin that is not empty: [mean prediction, share that was right, number of predictions]."""
    every = _joined(parts)
    place = np.minimum((every.p * BINS).astype(int), BINS - 1)
    return [
        [float(every.p[place == b].mean()), float(every.y[place == b].mean()), int((place == b).sum())]
        for b in range(BINS)
        if (place == b).any()
    ]
