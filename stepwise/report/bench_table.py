"""Routers on a recording as a table in a terminal, and what has to be said below it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table

from stepwise.evaluation.replayed import Row, Setting, nothing_cheaper
from stepwise.report.numbers import NOTHING_CHEAPER, NOTHING_GAINED, with_interval
from stepwise.report.thresholds import ascending, legend


def bench_table(rows: Sequence[Row], title: str) -> Table:
    """A line a setting. ``rows`` begin with the cheapest and the most expensive model alone."""
    table = Table(
        "router", "APGR (95%)", "threshold", "accuracy (95%)", "at best", "cost", "chains kept",
        title=title,
    )  # fmt: skip
    for row in rows:
        for i, setting in enumerate(sorted(row.settings, key=ascending)):
            low, high = setting.accuracy_ci
            table.add_row(
                "" if i else row.router,
                "" if i else with_interval(row.apgr, row.apgr_ci),
                "" if setting.threshold is None else f"{setting.threshold:g}",
                f"{setting.accuracy:.1%} ({100 * low:.1f} to {100 * high:.1f})",
                f"{setting.accuracy_at_best:.1%}",
                f"{setting.cost:.1%}",
                f"{1 - setting.lost / setting.chains:.1%}",
            )
    return table


def remarks(rows: Sequence[Row]) -> Iterator[str]:
    """What the columns and the thresholds are, why an APGR is missing, and how little is known of routers
    whose chains leave the recording. ``rows`` are those of `bench_table`."""
    yield (
        "chains kept: the share that stays on the recording; "
        "at best: the accuracy if the other chains were right."
    )
    if known := legend([row.router for row in rows]):
        yield known
    for row in rows[2:]:
        if row.apgr is None:
            yield f"{row.router}: APGR – ({_no_area(row)})."
    leaving = [row for row in rows if any(setting.lost for setting in row.settings)]
    yield from map(_leaving, leaving)
    if leaving:
        yield (
            "Record their branches with `python -m scripts.record pair=PAIR dataset=DATASET output=FOLDER "
            "+router@routers.NAME=NAME`, or try routers that keep to what is recorded."
        )


def _leaving(row: Row) -> str:
    """Where a router leaves the recording most often, and what that leaves unknown."""
    worst, *others = sorted((s for s in row.settings if s.lost), key=_lost, reverse=True)
    at = "" if worst.threshold is None else f" at {worst.threshold:g}"
    more = f" (and {len(others)} more of its settings leave it)" if others else ""
    return (
        f"{row.router}{at} leaves the recording in {worst.lost} of {worst.chains} chains{more}; its accuracy "
        f"lies between {worst.accuracy:.1%} and {worst.accuracy_at_best:.1%}."
    )


def _lost(setting: Setting) -> int:
    return setting.lost


def _no_area(row: Row) -> str:
    """Why a router has no APGR."""
    if any(setting.open for setting in row.settings):
        return "chains that leave the recording could be anything"
    if nothing_cheaper(row.settings):
        return NOTHING_CHEAPER
    return NOTHING_GAINED
