"""The content of ``summary.json``: what a run's rows say together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from stepwise.errors import ConfigError
from stepwise.evaluation import breakdown, metrics
from stepwise.evaluation.breakdown import Bin, Group
from stepwise.evaluation.metrics import RouterMetrics
from stepwise.evaluation.rows import Key, Row
from stepwise.types import Problem

TOKENS = ("prompt", "cached", "completion", "discarded")


class Point(msgspec.Struct, frozen=True):
    """A router at one setting. Intervals are 95%, over problems; costs are means a problem.

    Attributes:
        tokens: by model and kind, of all its chains.
        estimated: how many of the tokens no server counted.
        wall_s: seconds until its last chain ended.
        errors: chains that failed; ``error`` is the first failure.
        graded: chains whose answer a model graded.
        spent: mean cost by model and kind of work.
        positions: by model, how many steps it wrote at each position of a chain.
        breakdown: by label.
    """

    router: str
    threshold: float | None
    accuracy: float
    accuracy_ci: tuple[float, float]
    cost: float
    cost_ci: tuple[float, float]
    tokens: dict[str, dict[str, int | float]]
    wall_s: float
    estimated: int | float = 0
    errors: int = 0
    error: str | None = None
    graded: int = 0
    spent: dict[str, dict[str, float]] = {}
    positions: dict[str, list[int]] = {}
    breakdown: dict[str, list[Group]] = {}


class Difference(msgspec.Struct, frozen=True, rename={"quantity": "in"}):
    """A router less another one, paired over problems; ``ci`` is its 95% interval, None where undefined."""

    of: str
    to: str
    quantity: str
    difference: float | None
    ci: list[float | None]


class Oracle(msgspec.Struct, frozen=True):
    """The frontier of search with hindsight, costs as fractions of large-only; what is undefined is None."""

    n: int
    complete: int | float
    cost: list[float]
    accuracy: list[float]
    apgr: float | None
    cpt50: float | None
    cpt80: float | None
    cpt95: float | None


class Summary(msgspec.Struct, kw_only=True):
    """What a run says of itself and of its routers.

    Attributes:
        n: problems.
        models: of the pool, cheapest first; the first and the last are the references.
        large_cost: mean cost of a problem by the most expensive model alone: 100%.
        samples: chains a problem.
        errors: chains that failed, over all points.
        grading_cost: what a grading model took, which is in no other cost.
        reliability: of each reference, its chains in groups by confidence.
        metrics: by router.
        sampling, backend, weights, problems, versions, revision, machine, command: what repeats the run.
    """

    dataset: str
    pair: str
    cost_unit: str
    n: int
    seed: int
    models: list[str]
    large_cost: float
    points: list[Point]
    metrics: dict[str, RouterMetrics]
    samples: int = 1
    errors: int = 0
    grading_cost: float = 0.0
    reliability: dict[str, list[Bin]] = {}
    split: str = ""
    sampling: dict[str, float] = {}
    backend: Any = ""
    weights: dict[str, str] = {}
    problems: str = ""
    reward: str = ""
    versions: dict[str, str] = {}
    revision: str | None = None
    machine: str = ""
    command: str = ""
    oracle: Oracle | None = None
    differences: list[Difference] = []
    auc_wrong_chain: dict[str, float] = {}


def table(rows: Iterable[Row], problems: Sequence[Problem], value: str) -> dict[Key, NDArray[Any]]:
    """One array [n] per (router, threshold), in the order of the problems: means over a problem's samples."""
    place = {problem.id: i for i, problem in enumerate(problems)}
    total: dict[Key, NDArray[Any]] = {}
    for row in rows:
        sums = total.setdefault(row.key, np.zeros((2, len(problems))))
        sums[:, place[row.problem]] += (getattr(row, value), 1)
    return {key: sums / np.maximum(counts, 1) for key, (sums, counts) in total.items()}


def summarise(
    rows: Sequence[Row],
    problems: Sequence[Problem],
    *,
    models: Sequence[str],
    seed: int,
    about: Mapping[str, Any],
) -> Summary:
    """What the rows of a run say.

    Args:
        models: of the pool, cheapest first; the first and the last are the references.
        about: what the run says of itself, by field.

    Raises:
        ConfigError: if the rows hold no small-only or no large-only run to compare with.
    """
    small, large = models[0], models[-1]
    correct, cost = table(rows, problems, "correct"), table(rows, problems, "cost")
    if (small, None) not in correct or (large, None) not in correct:
        raise ConfigError(
            f"routers must include {small!r} and {large!r}: the others are measured against them."
        )
    places: dict[Key, list[int]] = {}
    for i, row in enumerate(rows):
        places.setdefault(row.key, []).append(i)

    def of_point(key: Key) -> list[Row]:
        """One setting at a time is in memory: there may be millions of rows."""
        return [rows[i] for i in places[key]]

    points = [_point(key, of_point(key), correct[key], cost[key], large=large, seed=seed) for key in places]
    runs = {name: run for name, run in samples(rows, problems).items() if name not in (small, large)}
    ends = [(correct[name, None], cost[name, None]) for name in (small, large)]
    return Summary(
        **about,
        n=len(problems),
        seed=seed,
        models=list(models),
        large_cost=float(cost[large, None].mean()),
        samples=1 + max(row.sample for row in rows),
        errors=sum(point.errors for point in points),
        grading_cost=sum((row.grading.cost for row in rows if row.grading), 0.0),
        reliability={name: breakdown.reliability(of_point((name, None))) for name in (small, large)},
        points=points,
        metrics=metrics.summarise(runs, *ends, seed=seed),
    )


def samples(rows: Sequence[Row], problems: Sequence[Problem]) -> dict[str, metrics.Samples]:
    """(correct, cost) of each router, both [points, n]: what `stepwise.evaluation.metrics` compares."""
    correct, cost = table(rows, problems, "correct"), table(rows, problems, "cost")
    names = dict.fromkeys(name for name, _ in correct)
    keys = {name: [key for key in correct if key[0] == name] for name in names}
    return {
        name: (np.stack([correct[key] for key in keys[name]]), np.stack([cost[key] for key in keys[name]]))
        for name in names
    }


def _point(
    key: Key, rows: Sequence[Row], correct: NDArray[Any], cost: NDArray[Any], *, large: str, seed: int
) -> Point:
    tokens = _tokens(rows)
    return Point(
        router=key[0],
        threshold=key[1],
        accuracy=float(correct.mean()),
        accuracy_ci=metrics.interval(correct, seed=seed),
        cost=float(cost.mean()),
        cost_ci=metrics.interval(cost, seed=seed),
        tokens={model: {kind: kinds.get(kind, 0) for kind in TOKENS} for model, kinds in tokens.items()},
        wall_s=max(row.wall_s for row in rows),
        estimated=sum(kinds.get("estimated", 0) for kinds in tokens.values()),
        errors=sum(row.error is not None for row in rows),
        error=next((row.error for row in rows if row.error), None),
        graded=sum(bool(row.grading) for row in rows),
        spent=breakdown.mean_spent(rows),
        positions=breakdown.positions(rows),
        breakdown=breakdown.by_label(rows, large, seed=seed),
    )


def _tokens(rows: Iterable[Row]) -> dict[str, dict[str, int | float]]:
    total: dict[str, dict[str, int | float]] = {}
    for row in rows:
        for model, usage in row.tokens.items():
            part = total.setdefault(model, {})
            for kind, count in usage.items():
                part[kind] = part.get(kind, 0) + count
    return total
