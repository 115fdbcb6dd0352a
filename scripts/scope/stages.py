"""How the stages of an estimator compare, by what they wrote about cases whose outcome is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.scope.trainers import Datum
from stepwise.evaluation import metrics
from stepwise.scope.prompt import read

Samples = list[list[str]]
"""Texts that a model wrote, [cases][samples]."""

Array = NDArray[np.float64]


def outcomes(samples: Samples, test: Sequence[Datum]) -> Mapping[str, Array]:
    """Per case: share of samples that parse, share that predict correctness rightly (one that does not parse
    predicts nothing), whether the majority does, the share of "yes" among those that parse, and the length's
    absolute error (these two are nan if nothing parses)."""
    parsed, right, majority, yes, error = [], [], [], [], []
    for texts, datum in zip(samples, test, strict=True):
        answers = [answer for text in texts if (answer := read(text)) is not None]
        agree = sum(answer.correct == datum.correct for answer in answers)
        parsed.append(len(answers) / len(texts))
        right.append(agree / len(texts))
        majority.append(float(2 * agree > len(answers)) if answers else 0.0)
        yes.append(sum(answer.correct for answer in answers) / len(answers) if answers else np.nan)
        lengths = [answer.tokens for answer in answers]
        error.append(abs(float(np.median(lengths)) - datum.tokens) if lengths else np.nan)
    columns = {
        "format": parsed,
        "accuracy": right,
        "accuracy_of_majority": majority,
        "yes": yes,
        "token_error": error,
    }
    return {name: np.array(values) for name, values in columns.items()}


def commoner(train: Sequence[Datum], test: Sequence[Datum], seed: int) -> list[float]:
    """How often the training cases' commoner outcome is that of a test case, with its interval: what knowing
    nothing about a question gives."""
    usual = 2 * sum(datum.correct for datum in train) >= len(train)
    right = np.array([float(datum.correct == usual) for datum in test])
    return [float(right.mean()), *metrics.interval(right, seed=seed)]


def figures(samples: Samples, test: Sequence[Datum], seed: int) -> dict[str, Any]:
    """Means with 95% intervals over cases: [mean, low, high]; None where nothing parses."""
    means: dict[str, Any] = {}
    for name, values in outcomes(samples, test).items():
        values = values[~np.isnan(values)]
        means[name] = [float(values.mean()), *metrics.interval(values, seed=seed)] if len(values) else None
    return means


def differences(samples: Mapping[str, Samples], test: Sequence[Datum], seed: int) -> list[dict[str, Any]]:
    """Paired differences between stages, in single samples and in the majority."""
    lines = []
    for of, to in (("sft", "few_shot"), ("grpo", "few_shot"), ("grpo", "sft")):
        a, b = outcomes(samples[of], test), outcomes(samples[to], test)
        for name in ("accuracy", "accuracy_of_majority"):
            gap = metrics.paired_difference(a[name], b[name], seed=seed)
            lines.append({"of": of, "to": to, "in": name, "difference": list(gap)})
    return lines
