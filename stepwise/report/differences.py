"""Paired differences between routers as a table in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from stepwise.evaluation.summary import Difference


def difference_table(differences: Sequence[Difference]) -> Table:
    """A line a pair of routers, a column a quantity, each with its 95% interval below it.

    Shares, whose names begin with "accuracy", are shown in percentage points.
    """
    quantities = list(dict.fromkeys(line.quantity for line in differences))
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for line in differences:
        cells.setdefault((line.of, line.to), {})[line.quantity] = _cell(line)
    table = Table(
        "router", "less", title="Differences, paired over problems (95% intervals)", show_lines=True
    )
    for quantity in quantities:
        unit = " (points)" if _share(quantity) else ""
        table.add_column(f"{quantity}{unit}", justify="right")
    for names, of in cells.items():
        table.add_row(*names, *(of.get(quantity, "–") for quantity in quantities))
    return table


def _share(quantity: str) -> bool:
    return quantity.startswith("accuracy")


def _cell(line: Difference) -> str:
    low, high = line.ci
    if line.difference is None or low is None or high is None:
        return "–"
    scale, digits = (100, 1) if _share(line.quantity) else (1, 3)
    mean, low, high = (scale * value for value in (line.difference, low, high))
    return f"{mean:+.{digits}f}\n{low:+.{digits}f} to {high:+.{digits}f}"
