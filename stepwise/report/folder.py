"""A run's folder: read what it holds, write everything that a reader wants from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stepwise.errors import ConfigError
from stepwise.report.page import write_page
from stepwise.report.plot import save_frontier
from stepwise.report.tables import write_csv, write_latex

Row = Mapping[str, Any]


def write_report(folder: str | Path, summary: Mapping[str, Any], rows: Sequence[Row]) -> None:
    """Write ``report.html``, ``frontier.png`` and ``.pdf``, ``points.csv`` and ``table.tex``."""
    folder = Path(folder)
    for kind in ("png", "pdf"):
        save_frontier(summary, folder / f"frontier.{kind}")
    write_csv(summary, folder / "points.csv")
    write_latex(summary, folder / "table.tex")
    write_page(summary, rows, folder / "report.html")


def read_run(folder: str | Path) -> tuple[dict[str, Any], Sequence[Row]]:
    """``summary.json`` and the rows of a finished run.

    Raises:
        ConfigError: if the folder is not one of an evaluation.
    """
    folder = Path(folder)
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder} holds no finished evaluation (summary.json: {error}).") from error
    missing = [name for name in ("points", "models", "metrics", "large_cost") if name not in summary]
    if missing:
        raise ConfigError(f"{folder / 'summary.json'} is not of an evaluation: {missing[0]!r} is missing.")
    from stepwise.evaluation.run import read_rows

    settings = {(point["router"], point["threshold"]) for point in summary["points"]}
    rows = [row for row in read_rows(folder / "rows.jsonl") if (row["router"], row["threshold"]) in settings]
    return summary, rows
