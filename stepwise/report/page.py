"""One HTML page for a run: the frontier, the numbers behind it, and chains of thought to read.

Self-contained (styles and figure inline, no scripts). Everything that a model or a dataset wrote
goes through Jinja's autoescaping; the figure is the only markup that is passed in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stepwise.report.plot import by_router, cost_percent, frontier_svg, metric

KINDS = ("generated", "prefill", "cached", "discarded")


def write_page(summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Write the page for a run.

    Args:
        summary: the run's ``summary.json``.
        rows: the chains to show, a handful of the run's ``rows.jsonl``; those of one problem are
            shown together under its question.
        path: the HTML file to write.
    """
    Path(path).write_text(_render(summary, rows), encoding="utf-8")


def _render(summary: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("stepwise.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"shown": shown, "amount": amount}
    models = list(summary["models"])
    return environment.get_template("template.html.j2").render(
        summary=summary,
        figure=frontier_svg(summary),
        routers=[_router(summary, router, points) for router, points in by_router(summary).items()],
        problems=_by_problem(rows),
        colors={model: f"m{_color(i, len(models))}" for i, model in enumerate(models)},
        kinds=KINDS,
        percent=lambda cost: cost_percent(summary, cost),
    )


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


def _color(place: int, models: int) -> int:
    """Index of a model's colour: 0 is the cheapest, 4 the dearest, others in between."""
    return round(4 * place / max(models - 1, 1))


def _router(summary: Mapping[str, Any], name: str, points: list[dict[str, Any]]) -> dict[str, Any]:
    """What the tables show of one router."""
    values = {key: metric(summary, name, key) for key in ("apgr", "cpt50", "cpt80", "cpt95", "aiq")}
    interval = summary["metrics"].get(name, {}).get("apgr_ci") or (None, None)
    return {
        "name": name,
        "points": [_point(summary, point) for point in points],
        "apgr_ci": interval,
        **values,
    }


def _point(summary: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
    """One operating point with its tokens per problem by kind and model, and each model's share.

    A model's share is of the generated tokens that stayed in the chains. Prefill is the part of the
    prompt that was computed, that is, not found in the prefix cache.
    """
    nothing = {"prompt": 0, "cached": 0, "completion": 0, "discarded": 0}
    usage = {model: point["tokens"].get(model, nothing) for model in summary["models"]}
    total = sum(used["completion"] for used in usage.values())
    tokens = {
        model: {
            "generated": used["completion"] / summary["n"],
            "prefill": (used["prompt"] - used["cached"]) / summary["n"],
            "cached": used["cached"] / summary["n"],
            "discarded": used["discarded"] / summary["n"],
        }
        for model, used in usage.items()
    }
    low, high = point["accuracy_ci"]
    return {
        **point,
        "half_width": 100 * (high - low) / 2,
        "percent": cost_percent(summary, point["cost"]),
        "share": {model: 100 * used["completion"] / total if total else 0 for model, used in usage.items()},
        "tokens": tokens,
    }


def _by_problem(rows: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Rows grouped by problem, in order of first appearance."""
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["problem"], []).append(row)
    return list(groups.values())
