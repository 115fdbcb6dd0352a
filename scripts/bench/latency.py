"""Figures of questions that were answered in several ways: seconds, tokens a second, accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stepwise.evaluation.metrics import interval
from stepwise.types import Usage

Array = NDArray[np.float64]


class Answered(msgspec.Struct):
    """A question that was answered; ``expected`` seconds by the cost model, 0 where there is none."""

    text: str
    tokens: int
    right: bool
    seconds: float = 0.0
    expected: float = 0.0
    usage: dict[str, Usage] = {}


def summary(blocks: Mapping[str, list[list[Answered]]]) -> dict[str, Any]:
    """Figures of each way, with 95% intervals, bootstrapped over questions.

    Where ``large`` was measured, also how many texts are the same as its own.
    """
    answers = {name: [a for block in parts for a in block[:-1]] for name, parts in blocks.items()}
    figures = {
        name: _figures(answers[name], [block[-1] for block in parts]) for name, parts in blocks.items()
    }
    texts = [a.text for a in answers.get("large", ())]
    for name in answers if texts else ():
        same = sum(a.text == text for a, text in zip(answers[name], texts, strict=True))
        figures[name]["same_text"] = same
    return figures


def _figures(answers: Sequence[Answered], walls: Sequence[Answered]) -> dict[str, Any]:
    seconds = np.array([a.seconds for a in answers])
    right = np.array([float(a.right) for a in answers])
    figures: dict[str, Any] = {
        "median_s": float(np.median(seconds)), "median_ci": quantile_interval(seconds, 0.5),
        "p90_s": float(np.quantile(seconds, 0.9)), "p90_ci": quantile_interval(seconds, 0.9),
        "tokens_per_s": sum(w.tokens for w in walls) / sum(w.seconds for w in walls),
        "wall_s": sum(w.seconds for w in walls),
        "right": float(right.mean()), "right_ci": interval(right),
    }  # fmt: skip
    if all(a.expected for a in answers):
        off = np.array([a.expected / a.seconds - 1 for a in answers])
        median = np.median([a.expected for a in answers]) / np.median(seconds) - 1
        figures |= {
            "expected_median_off": float(median),
            "expected_off": {
                "median": float(np.median(abs(off))),
                "mean": float(abs(off).mean()),
                "p90": float(np.quantile(abs(off), 0.9)),
            },
        }
    return figures


def quantile_interval(values: Array, share: float) -> tuple[float, float]:
    """95% interval of a quantile, bootstrapped."""
    drawn = np.random.default_rng(0).integers(len(values), size=(2000, len(values)))
    low, high = np.quantile(np.quantile(values[drawn], share, axis=1), [0.025, 0.975])
    return float(low), float(high)
