"""One HTML page for a run: the frontier, the numbers behind it, and chains of thought to browse.

Self-contained: styles, figures and the browser's script are inline. What a model or a dataset wrote goes
through Jinja's autoescaping, or into the page as JSON that the script shows as text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import structs

from stepwise.evaluation.rows import Row
from stepwise.evaluation.summary import Point, Summary
from stepwise.report import browser
from stepwise.report.plot import (
    LEARNED,
    apgr_interval,
    by_router,
    cost_percent,
    frontier_svg,
    metric,
    nearest,
    positions_svg,
    references,
    reliability_svg,
)
from stepwise.report.thresholds import knobs

KINDS = ("generated", "prefill", "cached", "discarded")
COST_KINDS = ("generated", "prefill", "discarded", "probe")
NEAR = 35  # percent of large-only cost, where routers are compared


def write_page(summary: Summary, rows: Sequence[Row], path: str | Path) -> None:
    """Write the page for a run.

    Args:
        summary: the run's ``summary.json``.
        rows: the run's ``rows.jsonl``; the page carries as many chains as it can hold.
        path: the HTML file to write.
    """
    Path(path).write_text(_render(summary, rows), encoding="utf-8")


def environment() -> Any:
    """Jinja's, with the filters for numbers."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("stepwise.report", "."),
        autoescape=lambda name: name is not None and name.endswith((".html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"shown": shown, "amount": amount}
    return made


def _render(summary: Summary, rows: Sequence[Row]) -> str:
    models = list(summary.models)
    groups = by_router(summary)
    shown_traces = browser.traces(rows, models, summary.large_cost)
    return str(
        environment()
        .get_template("template.html.j2")
        .render(
            summary=summary,
            tiles=_tiles(summary, groups),
            figure=frontier_svg(summary),
            routers=[_router(summary, router, points) for router, points in groups.items()],
            errors=[point for point in summary.points if point.errors],
            positions=positions_svg(summary, NEAR),
            labels=_labels(summary, groups),
            near=NEAR,
            costs=_costs(summary, groups),
            cost_kinds=COST_KINDS,
            knobs=knobs(groups),
            reliability=reliability_svg(summary),
            traces=shown_traces,
            data=browser.as_json(shown_traces),
            colors={model: f"m{browser.color(i, len(models))}" for i, model in enumerate(models)},
            kinds=KINDS,
        )
    )


def _tiles(summary: Summary, groups: Mapping[str, list[Point]]) -> list[dict[str, Any]]:
    """The few numbers that a reader looks for first."""
    tiles = [
        {
            "value": f"{100 * groups[model][0].accuracy:.1f}%",
            "text": f"{model} alone, right",
            "alarm": False,
        }
        for model in references(summary)
        if model in groups
    ]
    routers = [router for router in groups if router not in references(summary)]
    best = LEARNED if LEARNED in routers else next(iter(routers), None)
    if best and (area := metric(summary, best, "apgr")) is not None:
        tiles.append({"value": f"{area:.3f}", "text": f"APGR of {best}", "alarm": False})
        if (at := metric(summary, best, "cpt95")) is not None:
            text = f"of large's cost for 95% of the gap, {best}"
            tiles.append({"value": f"{100 * at:.0f}%", "text": text, "alarm": False})
    if summary.grading_cost:
        text = f"{summary.cost_unit} of a grading model, not in any cost"
        tiles.append({"value": amount(summary.grading_cost), "text": text, "alarm": False})
    if failed := summary.errors:
        tiles.append({"value": str(failed), "text": "chains failed, counted as wrong", "alarm": True})
    return tiles


def _labels(summary: Summary, groups: Mapping[str, list[Point]]) -> list[dict[str, Any]]:
    """Accuracy and large's share by level, subject and so on, of every router near `NEAR`."""
    chosen = {router: nearest(summary, points, NEAR) for router, points in groups.items()}
    names = dict.fromkeys(name for point in chosen.values() for name in point.breakdown)
    tables = []
    for name in names:
        of = {r: {line.value: line for line in p.breakdown.get(name, [])} for r, p in chosen.items()}
        values = {value: line.n for lines in of.values() for value, line in lines.items()}
        if len(values) > 1:
            lines = [
                {"value": value, "n": n, "cells": [lines.get(value) for lines in of.values()]}
                for value, n in values.items()
            ]
            tables.append({"name": name, "routers": list(of), "lines": lines})
    return tables


def _costs(summary: Summary, groups: Mapping[str, list[Point]]) -> list[dict[str, Any]]:
    """Every point's cost in parts; the widest bar is the most expensive point's."""
    most = max((point.cost for point in summary.points), default=0.0)
    if not most or not any(point.spent for point in summary.points):
        return []
    order = {kind: i for i, kind in enumerate(COST_KINDS)}
    bars = []
    for router, points in groups.items():
        lines = []
        for point in points:
            parts = [
                {
                    "model": model, "kind": kind, "percent": cost_percent(summary, value),
                    "share": round(100 * value / point.cost, 3) if point.cost else 0,
                }
                for model, kinds in sorted(
                    point.spent.items(), key=lambda item: _place(summary, item[0])
                )
                for kind, value in sorted(kinds.items(), key=lambda item: order[item[0]])
            ]  # fmt: skip
            width = round(100 * point.cost / most, 3)
            percent = cost_percent(summary, point.cost)
            lines.append({**structs.asdict(point), "parts": parts, "width": width, "percent": percent})
        bars.append({"name": router, "points": lines})
    return bars


def _place(summary: Summary, model: str) -> int:
    models = list(summary.models)
    return models.index(model) if model in models else len(models)


def shown(value: float | None, digits: int = 1, unit: str = "") -> str:
    """A number for a reader; a dash where it is missing or undefined."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,.{digits}f}{unit}"


def amount(value: float | None) -> str:
    """A quantity of any size to four digits: 0.00042, 23, or 4.031 × 10⁹."""
    if value is None or not math.isfinite(value):
        return "–"
    mantissa, _, exponent = f"{value:.4g}".partition("e")
    raised = str(int(exponent or 0)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa} × 10{raised}" if exponent else mantissa


def _router(summary: Summary, name: str, points: list[Point]) -> dict[str, Any]:
    """What the tables show of one router."""
    values = {key: metric(summary, name, key) for key in ("apgr", "cpt50", "cpt80", "cpt95", "aiq")}
    interval = apgr_interval(summary, name)
    return {
        "name": name,
        "points": [_point(summary, point) for point in points],
        "apgr_ci": interval,
        **values,
    }


def _point(summary: Summary, point: Point) -> dict[str, Any]:
    """One operating point with its tokens per problem by kind and model, and each model's share.

    A model's share is of the generated tokens that stayed in the chains. Prefill is the part of the
    prompt that was computed, that is, not found in the prefix cache.
    """
    nothing = {"prompt": 0, "cached": 0, "completion": 0, "discarded": 0}
    usage = {model: point.tokens.get(model, nothing) for model in summary.models}
    total = sum(used["completion"] for used in usage.values())
    tokens = {
        model: {
            "generated": used["completion"] / summary.n,
            "prefill": (used["prompt"] - used["cached"]) / summary.n,
            "cached": used["cached"] / summary.n,
            "discarded": used["discarded"] / summary.n,
        }
        for model, used in usage.items()
    }
    low, high = point.accuracy_ci
    return {
        **structs.asdict(point),
        "half_width": 100 * (high - low) / 2,
        "percent": cost_percent(summary, point.cost),
        "share": {model: 100 * used["completion"] / total if total else 0 for model, used in usage.items()},
        "tokens": tokens,
    }
