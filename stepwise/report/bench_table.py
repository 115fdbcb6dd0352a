"""Routers on a recording as a table in a terminal, and what has to be said below it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table

from stepwise.evaluation.replayed import Row, Setting
from stepwise.report.numbers import with_interval
from stepwise.report.thresholds import ascending, legend


def bench_table(rows: Sequence[Row], title: str) -> Table:
    """A line a setting. ``rows`` begin with the cheapest and the most expensive model alone."""
    table = Table(
        "router", "APGR (95%)", "threshold", "accuracy (95%)", "at best", "cost", "chains kept",
        title=title,
    )  # fmt: skip
    for place, row in enumerate(rows):
        for i, setting in enumerate(sorted(row.settings, key=ascending)):
            low, high = setting.accuracy_ci
            table.add_row(
                "" if i else row.router,
                "" if i else _area(row, alone=place < 2),
                "" if setting.threshold is None else f"{setting.threshold:g}",
                f"{setting.accuracy:.1%} ({100 * low:.1f} to {100 * high:.1f})",
                f"{setting.accuracy_at_best:.1%}",
                f"{setting.cost:.1%}",
                f"{1 - setting.lost / setting.chains:.1%}",
            )
    return table


def remarks(rows: Sequence[Row]) -> Iterator[str]:
    """What the thresholds are, and how little is known of routers whose chains leave the recording."""
    if known := legend([row.router for row in rows]):
        yield known
    leaving = [(row.router, worst) for row in rows if (worst := max(row.settings, key=_lost)).lost]
    for name, worst in leaving:
        at = "" if worst.threshold is None else f" at {worst.threshold:g}"
        yield (
            f"{name}{at} leaves the recording in {worst.lost} of {worst.chains} chains; its accuracy lies "
            f"between {worst.accuracy:.1%} and {worst.accuracy_at_best:.1%}."
        )
    if leaving:
        yield (
            "Record their branches with `python -m scripts.record pair=PAIR dataset=DATASET output=FOLDER "
            "+router@routers.NAME=NAME`, or try routers that keep to what is recorded."
        )


def _lost(setting: Setting) -> int:
    return setting.lost


def _area(row: Row, *, alone: bool) -> str:
    """APGR, where there is something between the two models to measure."""
    if alone or all(setting.cost >= 1 for setting in row.settings):
        return "–"
    return with_interval(row.apgr, row.apgr_ci)
