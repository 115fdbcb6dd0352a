"""``stepwise scope experiments``: what a folder's own anchors say about SCOPE's dials."""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from stepwise.cli.options import Commands
from stepwise.cli.scope_files import add_action


def add_parser(commands: Commands) -> None:
    summary = "how the number of anchors and of neighbours changes forecasts of left-out anchors"
    action = add_action(commands, "experiments", summary)
    action.add_argument(
        "--seed", type=int, default=0, help="seed of which anchors are left out (default: %(default)s)"
    )
    action.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> None:
    """Print a table.

    Raises:
        ConfigError: if a file is missing, or there are too few anchors.
    """
    from stepwise.scope import Scope
    from stepwise.scope.experiments import by_neighbours, by_size

    scope = Scope.open(options.folder)
    anchors, store = scope.anchors, scope.fingerprints
    table = Table("dial", "setting", "AUC", "Brier", title="forecasts of left-out anchors")
    for judged in (*by_size(anchors, store, options.seed), *by_neighbours(anchors, store)):
        table.add_row(judged.dial, str(judged.setting), f"{judged.auc:.3f}", f"{judged.brier:.4f}")
    console.print(table)
