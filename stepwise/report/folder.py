"""A run's folder: read what it holds, write everything that a reader wants from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from stepwise.errors import ConfigError
from stepwise.evaluation.rows import Row, read_rows
from stepwise.evaluation.summary import Summary
from stepwise.report.page import write_page
from stepwise.report.plot import save_frontier
from stepwise.report.tables import write_csv, write_latex


def write_run(folder: str | Path, summary: Summary, rows: Sequence[Row]) -> None:
    """Write ``summary.json`` and the report."""
    text = msgspec.json.format(msgspec.json.encode(summary), indent=1)
    (Path(folder) / "summary.json").write_bytes(text + b"\n")
    write_report(folder, summary, rows)


def write_report(folder: str | Path, summary: Summary, rows: Sequence[Row]) -> None:
    """Write ``report.html``, ``frontier.png`` and ``.pdf``, ``points.csv`` and ``table.tex``."""
    folder = Path(folder)
    for kind in ("png", "pdf"):
        save_frontier(summary, folder / f"frontier.{kind}")
    write_csv(summary, folder / "points.csv")
    write_latex(summary, folder / "table.tex")
    write_page(summary, rows, folder / "report.html")


def read_run(folder: str | Path) -> tuple[Summary, Sequence[Row]]:
    """``summary.json`` and the rows of a finished run.

    Raises:
        ConfigError: if the folder is not one of an evaluation.
    """
    folder = Path(folder)
    try:
        summary = msgspec.json.decode((folder / "summary.json").read_bytes(), type=Summary)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{folder / 'summary.json'} is not of an evaluation: {error}.") from error
    except OSError as error:
        raise ConfigError(
            f"{folder} holds no finished evaluation (summary.json: {error.strerror})."
        ) from error
    except msgspec.DecodeError as error:
        raise ConfigError(f"{folder} holds no finished evaluation (summary.json: {error}).") from error
    settings = {(point.router, point.threshold) for point in summary.points}
    return summary, [row for row in read_rows(folder / "rows.jsonl") if row.key in settings]
