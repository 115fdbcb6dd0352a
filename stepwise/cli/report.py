"""``stepwise report``: draw a finished evaluation again, compare several, or ask a gateway's log."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from stepwise.cli.options import Commands, add_router
from stepwise.errors import ConfigError
from stepwise.extras import require


def add_parser(commands: Commands) -> None:
    command = commands.add_parser(
        "report", help="redraw the report of an evaluation, compare several runs, or ask a gateway's log"
    )
    command.add_argument("folders", nargs="*", metavar="DIR", help="folder of an evaluation")
    command.add_argument(
        "--output", default="outputs/report", help="folder for a comparison (default: %(default)s)"
    )
    command.add_argument(
        "--logged", type=Path, action="append", default=[], metavar="LOG",
        help="decisions of `stepwise serve --shadow` or `--explore`: what --router would have reached",
    )  # fmt: skip
    command.add_argument(
        "--labels", type=Path, action="append", default=[], metavar="FILE",
        help="lines that say which of the log's answers are right: "
        """{"type": "label", "id": "CHAIN", "correct": 1}""",
    )  # fmt: skip
    add_router(command, default=None)
    command.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> None:
    """Write the page of one run, or of several side by side; or say what a log knows.

    Raises:
        ConfigError: if there is neither folder nor log, or both; if a folder holds no finished evaluation, a
            log does not know the router, or the extra `report` is missing.
    """
    if bool(options.folders) == bool(options.logged):
        raise ConfigError("report: give either folders of evaluations, or --logged LOG.")
    if options.logged:
        _show_log(options, console)
    else:
        _draw(options, console)


def _show_log(options: argparse.Namespace, console: Console) -> None:
    from stepwise import load_pair
    from stepwise.evaluation.logged.chains import read_log
    from stepwise.report.logged import show_log
    from stepwise.routers.named import named_router

    chains = read_log(*options.logged, *options.labels)
    router = None
    if options.router is not None:
        router = named_router(
            options.router, load_pair(options.pair), budget=options.budget,
            max_accuracy_loss=options.max_accuracy_loss, threshold=options.threshold,
        )  # fmt: skip
    elif not any(chain.shadow for chain in chains):
        raise ConfigError("report: name the --router that the log shall be asked about.")
    show_log(chains, router, console)


def _draw(options: argparse.Namespace, console: Console) -> None:
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
