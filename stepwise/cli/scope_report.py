"""``stepwise scope report``: a folder's models, the estimators that are believed, and what routing gives."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from stepwise.cli.options import Commands
from stepwise.cli.scope_files import add_action, add_pool, open_folder

if TYPE_CHECKING:
    from stepwise.scope import Scope, Setting
    from stepwise.scope.estimators import Candidate

LINES = 9


def add_parser(commands: Commands) -> None:
    action = add_action(commands, "report", "the models, and what routing among them gives on the anchors")
    add_pool(action)
    action.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> None:
    """Print the models and the frontier, every anchor routed as if it was not known.

    Raises:
        ConfigError: if a file or a model is missing.
    """
    scope = open_folder(options)
    known = scope.known
    models = list(options.models or known.models)
    scope.beliefs(["?"], models)  # unknown names are refused before anything is printed
    priced = [model for model in models if known.prices[known.models.index(model)] is not None]
    console.print(_models(scope, models))
    console.print(_estimators(scope.candidates))
    for reason in known.quarantined.values():
        console.print(f"left out: {reason}", markup=False, soft_wrap=True)
    if len(priced) < len(models):
        console.print("Not every model has a price: no frontier.")
        return
    console.print(_frontier(scope.settings(models)))


def _models(scope: Scope, models: Sequence[str]) -> Table:
    known = scope.known
    table = Table("model", "anchors", "right", "tokens", "price in/out", title="alone, on the anchors")
    for model in models:
        row = known.models.index(model)
        seen, price = known.seen[row], known.prices[row]
        table.add_row(
            model,
            str(int(seen.sum())),
            f"{known.mean[row]:.1%}",
            f"{known.tokens[row][seen].mean():.0f}",
            f"{price.input:.4g} / {price.output:.4g}" if price else "none",
        )
    return table


def _estimators(candidates: Sequence[Candidate]) -> Table:
    """Which estimators are believed, and why: who predicts left-out anchors better has the larger part."""
    table = Table("estimators", "log loss", "part", title="what predicts left-out anchors")
    for candidate in candidates:
        table.add_row(" + ".join(candidate.members), f"{candidate.loss:.4f}", f"{candidate.share:.0%}")
    return table


def _frontier(settings: Sequence[Setting]) -> Table:
    """A few settings at even steps of cost."""
    table = Table("alpha", "right", "cost a question", title="routed, held out")
    low, high = (edge(setting.cost for setting in settings) for edge in (min, max))
    for step in range(LINES):
        cost = low + (high - low) * step / (LINES - 1)
        best = max(
            (setting for setting in settings if setting.cost <= cost * (1 + 1e-9)), key=lambda s: s.value
        )
        table.add_row(f"{best.alpha:.4g}", f"{best.value:.1%}", f"{best.cost:.3g}")
        if high == low:
            break
    return table
