"""What a run's rows say beyond means: where cost goes, where in the chain and on what the large model is
used, how well confidence matches correctness.

Where a single chain's cost went is in its row (`stepwise.evaluation.spent`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from stepwise.evaluation import metrics
from stepwise.evaluation.rows import Row

MAX_POSITIONS = 40
BINS = 10
MOST_VALUES = 12  # of a label; the rarest are left out


class Group(msgspec.Struct, frozen=True):
    """Problems with one value of a label; ``large_share`` is of the steps."""

    value: str
    n: int
    accuracy: float
    accuracy_ci: tuple[float, float]
    cost: float
    large_share: float


class Bin(msgspec.Struct, frozen=True):
    """Chains of about one confidence, and how often they are right."""

    n: int
    confidence: float
    accuracy: float
    accuracy_ci: tuple[float, float]


def mean_spent(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """`spent` averaged over chains."""
    total: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for row in rows:
        for model, kinds in row.spent.items():
            for kind, value in kinds.items():
                total[model][kind] += value / len(rows)
    return {model: dict(kinds) for model, kinds in total.items()}


def positions(rows: Iterable[Row]) -> dict[str, list[int]]:
    """By model, how many steps it wrote at each position of a chain (the last one: and beyond)."""
    counts: dict[str, list[int]] = {}
    for row in rows:
        for place, step in enumerate(row.steps):
            of = counts.setdefault(step.model, [0] * MAX_POSITIONS)
            of[min(place, MAX_POSITIONS - 1)] += 1
    longest = max((max(np.flatnonzero(of)) + 1 for of in counts.values()), default=0)
    return {model: of[:longest] for model, of in counts.items()}


def by_label(rows: Sequence[Row], large: str, *, seed: int) -> dict[str, list[Group]]:
    """By label and value: number of problems, accuracy with its interval, cost, share of large's steps."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        for label, value in row.labels.items():
            groups[label, value].append(row)
    by_name: dict[str, list[Group]] = defaultdict(list)
    for (label, value), some in sorted(groups.items(), key=lambda group: -len(group[1])):
        if len(by_name[label]) < MOST_VALUES:
            by_name[label].append(_group(value, some, large, seed))
    return {label: sorted(values, key=_place) for label, values in by_name.items()}


def _place(group: Group) -> tuple[float, str]:
    try:
        return float(group.value), ""
    except ValueError:
        return math.inf, group.value


def _group(value: str, rows: Sequence[Row], large: str, seed: int) -> Group:
    right: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        right[row.problem].append(row.correct)
    means = [float(np.mean(values)) for values in right.values()]
    writers = [step.model for row in rows for step in row.steps]
    return Group(
        value=value,
        n=len(means),
        accuracy=float(np.mean(means)),
        accuracy_ci=metrics.interval(means, seed=seed),
        cost=float(np.mean([row.cost for row in rows])),
        large_share=writers.count(large) / len(writers) if writers else 0.0,
    )


def reliability(rows: Sequence[Row]) -> list[Bin]:
    """Chains in up to `BINS` groups of equal size by confidence, with how often each group is right.

    A chain's confidence is the geometric mean of its tokens' probabilities.
    """
    scored = [(value, row) for row in rows if (value := confidence(row)) is not None]
    if not scored:
        return []
    scored.sort(key=lambda pair: pair[0])
    parts = np.array_split(np.arange(len(scored)), min(BINS, max(1, len(scored) // 5)))
    return [_bin([scored[i] for i in part]) for part in parts]


def confidence(row: Row) -> float | None:
    """Geometric mean of a chain's token probabilities, None where its models return none."""
    known = [step.signals for step in row.steps if step.signals.known]
    if not known:
        return None
    total = sum(signals.mean_logprob * signals.length for signals in known)
    return math.exp(total / sum(signals.length for signals in known))


def _bin(scored: Sequence[tuple[float, Row]]) -> Bin:
    right = [float(row.correct) for _, row in scored]
    return Bin(
        n=len(right),
        confidence=float(np.mean([value for value, _ in scored])),
        accuracy=float(np.mean(right)),
        accuracy_ci=metrics.interval(right),
    )
