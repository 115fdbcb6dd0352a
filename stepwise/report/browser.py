"""The chains that a page carries: of every kind some, as many as a page can hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from stepwise.evaluation.rows import Row

SETTINGS = 3  # of a router: its cheapest, its most expensive, one between
MAX_CHARACTERS = 3_000_000  # of all chains in a page
MAX_LABEL_VALUES = 30  # a label with more is no filter


def traces(rows: Sequence[Row], models: Sequence[str], large_cost: float) -> dict[str, Any]:
    """Problems and chains for the browser: all that failed, then by problem what there is room for."""
    settings = _settings(rows)
    order = {problem: i for i, problem in enumerate(dict.fromkeys(row.problem for row in rows))}
    ranks = [(row.error is None, order[row.problem]) for row in rows]
    chosen, size = [], 0
    for row in (rows[i] for i in sorted(range(len(rows)), key=ranks.__getitem__)):
        if row.error is None and (row.router, row.threshold) not in settings:
            continue
        size += len(row.question) + sum(len(step.text) + 250 for step in row.steps)
        if size > MAX_CHARACTERS:
            break
        chosen.append(row)
    places = {problem: i for i, problem in enumerate(dict.fromkeys(row.problem for row in chosen))}
    first = {row.problem: row for row in reversed(chosen)}
    problems = [
        {"id": id, "question": row.question, "gold": row.gold, "labels": row.labels}
        for id, row in ((id, first[id]) for id in places)
    ]
    return {
        "of": len(rows),
        "labels": _filters(problems),
        "colors": {model: color(i, len(models)) for i, model in enumerate(models)},
        "problems": problems,
        "traces": [_trace(row, places[row.problem], large_cost) for row in chosen],
    }


def as_json(data: Mapping[str, Any]) -> str:
    """JSON that no content can end: every ``<`` is written as an escape."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def color(place: int, models: int) -> int:
    """Index of a model's colour: 0 is the cheapest, 4 the most expensive, others in between."""
    return round(4 * place / max(models - 1, 1))


def _settings(rows: Sequence[Row]) -> set[tuple[str, Any]]:
    """Of every router up to `SETTINGS` of its thresholds, from one end to the other."""
    thresholds: dict[str, list[Any]] = {}
    for router, threshold in dict.fromkeys((row.router, row.threshold) for row in rows):
        thresholds.setdefault(router, []).append(threshold)
    chosen = set()
    for router, values in thresholds.items():
        last = min(SETTINGS, len(values)) - 1
        chosen |= {(router, values[round(i * (len(values) - 1) / max(last, 1))]) for i in range(last + 1)}
    return chosen


def _filters(problems: Sequence[Mapping[str, Any]]) -> list[str]:
    values: dict[str, set[str]] = {}
    for problem in problems:
        for label, value in problem["labels"].items():
            values.setdefault(label, set()).add(value)
    return [label for label, some in values.items() if 1 < len(some) <= MAX_LABEL_VALUES]


def _trace(row: Row, problem: int, large_cost: float) -> dict[str, Any]:
    def percent(cost: float) -> float | None:
        return round(100 * cost / large_cost, 3) if large_cost else None

    kept = ("router", "threshold", "correct", "answer", "stop", "error")
    return {
        **{name: getattr(row, name) for name in kept},
        "problem": problem,
        "sample": row.sample,
        "cost": percent(row.cost),
        "graded": row.grading.text if row.grading else None,
        "steps": [
            {
                **{name: getattr(step, name) for name in ("text", "model", "score", "reason", "draft")},
                "cost": percent(step.cost),
                "signals": {name: round(value, 4) for name, value in asdict(step.signals).items()},
            }
            for step in row.steps
        ],
    }
