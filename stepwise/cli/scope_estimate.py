"""``stepwise scope estimate``: what each model would make of a question."""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from stepwise.cli.options import Commands
from stepwise.cli.scope_files import add_action, add_pool, nearest, open_folder, shown


def add_parser(commands: Commands) -> None:
    action = add_action(commands, "estimate", "what each model would make of a question")
    action.add_argument("question")
    add_pool(action)
    action.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> None:
    """Print a table of estimates; intervals are 90%.

    Raises:
        ConfigError: if a file or a model is missing, or the question is empty.
    """
    scope = open_folder(options)
    estimates = scope.estimate(options.question, options.models)
    table = Table("model", "right (90%)", "tokens (90%)", "cost")
    for estimate in estimates:
        table.add_row(*shown(estimate))
    console.print(table)
    if estimates[0].outside:
        console.print("This question is unlike the anchors, so every model's mean is shown.")
    console.print(nearest(scope, options.question), markup=False, highlight=False, soft_wrap=True)
    for reason in scope.known.quarantined.values():
        console.print(f"left out: {reason}", markup=False, soft_wrap=True)
