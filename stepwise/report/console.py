"""A run's results as a table in a terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from stepwise.evaluation.summary import Summary
from stepwise.report.differences import difference_tables
from stepwise.report.numbers import NOTHING_CHEAPER, NOTHING_GAINED
from stepwise.report.plot import by_router, references
from stepwise.report.thresholds import ascending, legend


def show(summary: Summary, folder: Path, console: Console) -> None:
    """The results as a person reads them."""
    large = summary.large_cost
    table = Table(title=f"{summary.n} problems, accuracy and cost (cost of large-only = 100%)")
    for name in ("router", "threshold", "accuracy", "95% interval", "cost"):
        table.add_column(name, justify="left" if name == "router" else "right")
    for point in sorted(summary.points, key=lambda point: (point.router, ascending(point))):
        low, high = point.accuracy_ci
        threshold = "" if point.threshold is None else f"{point.threshold:g}"
        cells = (f"{point.accuracy:.1%}", f"{low:.1%} - {high:.1%}", f"{point.cost / large:.1%}")
        table.add_row(point.router, threshold, *cells, style="bold" if point.router == "ppo" else "")
    console.print(table)
    routers = by_router(summary)
    if known := legend(routers):
        console.print(known)
    why = _no_area(summary)
    for name in routers:
        if name in summary.metrics:
            area = summary.metrics[name].apgr
            said = f"– ({why})" if area is None else f"{area:.3f}"
            console.print(f"  {name}: area under the frontier (APGR) {said}")
    for compared in difference_tables(summary.differences):
        console.print(compared)
    console.print(f"Open [bold]{folder / 'report.html'}[/bold] and {folder / 'frontier.png'}.")


def _no_area(summary: Summary) -> str:
    """Why a router of the run has no APGR."""
    small, large = (
        max(point.accuracy for point in summary.points if point.router == model)
        for model in references(summary)
    )
    return NOTHING_CHEAPER if large > small else NOTHING_GAINED
