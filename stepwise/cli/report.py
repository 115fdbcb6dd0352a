"""``stepwise report``: draw a finished evaluation again, or compare several."""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.markup import escape

from stepwise.cli.options import Commands
from stepwise.extras import require


def add_parser(commands: Commands) -> None:
    command = commands.add_parser(
        "report", help="redraw the report of an evaluation, or compare several runs"
    )
    command.add_argument("folders", nargs="+", metavar="DIR", help="folder of an evaluation")
    command.add_argument(
        "--output", default="outputs/report", help="folder for a comparison (default: %(default)s)"
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> None:
    """Write the page of one run, or of several side by side.

    Raises:
        ConfigError: if a folder holds no finished evaluation, or the extra `report` is missing.
    """
    from stepwise.evaluation import provenance
    from stepwise.report import read_run, write_comparison, write_report

    runs = {folder: read_run(folder) for folder in options.folders}
    require("stepwise report", "report")
    if len(runs) == 1:
        ((folder, run),) = runs.items()
        write_report(folder, *run)
        page = f"{folder}/report.html"
    else:
        page = str(provenance.writable(options.output) / "comparison.html")
        write_comparison({folder: summary for folder, (summary, _) in runs.items()}, page)
    console.print(f"Open [bold]{escape(page)}[/bold].")
