"""Several runs side by side on one page: their frontiers and a line of numbers a router."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stepwise.evaluation.summary import Point, Summary
from stepwise.report.page import environment
from stepwise.report.plot import apgr_interval, by_router, cost_percent, frontier_svg, metric, references


def write_comparison(runs: Mapping[str, Summary], path: str | Path) -> None:
    """Write the page.

    Args:
        runs: by name, each run's ``summary.json``.
        path: the HTML file to write.
    """
    cards = [
        {"name": name, "summary": summary, "figure": frontier_svg(summary)} for name, summary in runs.items()
    ]
    page = environment().get_template("compare.html.j2").render(cards=cards, tables=_tables(runs))
    Path(path).write_text(page, encoding="utf-8")


def _tables(runs: Mapping[str, Summary]) -> list[dict[str, Any]]:
    """A table a router, with a line for every run that has it; the learned router comes first."""
    groups = {name: by_router(summary) for name, summary in runs.items()}
    routers = dict.fromkeys(router for of in groups.values() for router in of)
    alone = {model for summary in runs.values() for model in references(summary)}
    ordered = sorted(routers, key=alone.__contains__)
    return [
        {
            "router": router,
            "lines": [
                _line(name, runs[name], router, of[router]) for name, of in groups.items() if router in of
            ],
        }
        for router in ordered
    ]


def _line(name: str, summary: Summary, router: str, points: Sequence[Point]) -> dict[str, Any]:
    best = max(points, key=lambda point: (point.accuracy, -point.cost))
    return {
        "run": name,
        "n": summary.n,
        "accuracy": 100 * best.accuracy,
        "accuracy_ci": [100 * end for end in best.accuracy_ci],
        "cost": cost_percent(summary, best.cost),
        "apgr": metric(summary, router, "apgr"),
        "apgr_ci": apgr_interval(summary, router),
        "cpt80": metric(summary, router, "cpt80"),
    }
