"""Labelled questions from elsewhere, by recipe: what teaches SCOPE's estimators what is hard or long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from stepwise.scope import Auxiliary
from stepwise.scope.recipes import read_rows


def labelled(path: str, question: str, numbers: Sequence[str] = (), lengths: Sequence[str] = (),
             categories: Sequence[str] = (), only: Mapping[str, Any] | None = None) -> Auxiliary:  # fmt: skip
    """Labelled questions of a JSON Lines file: numbers, ln of the length of texts, categories."""
    rows = [row for row in read_rows(path) if all(row[k] == v for k, v in (only or {}).items())]
    kinds = {name: sorted({row[name] for row in rows}) for name in categories}

    def values(row: Mapping[str, Any]) -> Iterator[float]:
        yield from (_number(row[name]) for name in numbers)
        yield from (float(np.log(len(row[name]) + 20)) for name in lengths)
        for name in categories:
            yield from (float(row[name] == kind) for kind in kinds[name])

    usable = [row for row in rows if all(np.isfinite(list(values(row))))]
    return Auxiliary([row[question] for row in usable], np.array([list(values(row)) for row in usable]))


def _number(value: Any) -> float:
    digits = "".join(c for c in str(value) if c.isdigit() or c == ".")
    return float(digits) if digits else float("nan")


def pass_rates(path: str, correct: str, question: str | None = None, key: str | None = None,
               questions: str | None = None) -> Auxiliary:  # fmt: skip
    """Smoothed logit of how often recorded solutions are right, per question (of another file, by a key)."""
    texts = {row[key]: row["question"] for row in read_rows(questions)} if questions and key else {}
    outcomes: dict[str, list[float]] = {}
    for row in read_rows(path):
        text = texts[row[key]] if key else row[question or "question"]
        outcomes.setdefault(text, []).append(float(row[correct]))
    rates = [np.log((sum(o) + 0.5) / (len(o) - sum(o) + 0.5)) for o in outcomes.values()]
    return Auxiliary(list(outcomes), np.array(rates)[:, None])
