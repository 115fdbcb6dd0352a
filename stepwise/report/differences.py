"""Paired differences between routers as tables in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.table import Table

from stepwise.evaluation.summary import Difference


def difference_tables(differences: Sequence[Difference]) -> Iterator[Table]:
    """A table a router: a line for every quantity in which it is compared with another one.

    Shares, whose names begin with "accuracy", are shown in percentage points.
    """
    for name, of in groupby(differences, lambda line: line.of):
        title = f"{name} less others, paired over problems (accuracy in points)"
        table = Table("less", "in", title=title, show_edge=False, pad_edge=False)  # in 80 columns
        table.add_column("difference (95%)", justify="right", no_wrap=True)
        for other, lines in groupby(of, lambda line: line.to):
            for i, line in enumerate(lines):
                table.add_row("" if i else other, line.quantity, _cell(line))
            table.add_section()
        yield table


def _cell(line: Difference) -> str:
    low, high = line.ci
    if line.difference is None or low is None or high is None:
        return "–"
    scale, digits = (100, 1) if line.quantity.startswith("accuracy") else (1, 3)
    mean, low, high = (scale * value for value in (line.difference, low, high))
    return f"{mean:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"
