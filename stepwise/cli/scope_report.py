"""``stepwise scope report``: a folder's models, the estimators that are believed, and what routing gives."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from stepwise.cli.options import Commands
from stepwise.cli.scope_choose import ALPHA
from stepwise.cli.scope_files import ONE_MODEL, add_action, add_pool, covered, dollars, open_folder

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
    from stepwise.scope.novelty import OUTSIDE
    from stepwise.scope.scope import UNPRICED

    scope = open_folder(options)
    known = scope.known
    models = list(options.models or known.models)
    scope.beliefs(["?"], models)  # unknown names are refused before anything is printed
    priced = [model for model in models if known.prices[known.models.index(model)] is not None]
    console.print(_models(scope, models))
    console.print(_estimators(scope.candidates))
    console.print("Lower log loss is better; part is how much an estimator counts.", highlight=False)
    for line in covered(scope.anchors):
        console.print(line, highlight=False)
    for reason in known.quarantined.values():
        console.print(f"left out: {reason}", markup=False, soft_wrap=True)
    if len(models) == 1:
        console.print(ONE_MODEL)
    elif len(priced) < len(models):
        console.print(f"Not every model has a price, so routing is not shown; {UNPRICED}.")
    else:
        console.print(_frontier(scope, models))
        outside = float((scope.novelty_of_anchors < OUTSIDE).mean())
        if outside and options.outside != "estimates":
            who = "the best single model" if options.outside == "best" else options.outside
            console.print(
                f"{outside:.1%} of the anchors are unlike the others: at every alpha {who} answers them.",
                highlight=False, soft_wrap=True,
            )  # fmt: skip


def _models(scope: Scope, models: Sequence[str]) -> Table:
    known = scope.known
    table = Table(
        "model", "anchors", "right", "tokens", "$ per million tokens in/out", title="alone, on the anchors"
    )
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


def _frontier(scope: Scope, models: Sequence[str]) -> Table:
    """Every model alone, and a few settings at even ratios of cost, that of the default alpha among them."""
    table = Table("who answers", "right", "$ per 1,000 questions", title="routed, held out")
    for model in models:
        table.add_row(f"always {model}", *_result(scope.settings([model])[0]))
    table.add_section()
    settings = scope.settings(models)
    low, high = (edge(setting.cost for setting in settings) for edge in (min, max))
    chosen = [setting for setting in settings if setting.alpha == ALPHA]
    for step in range(LINES):
        cost = low * (high / low) ** (step / (LINES - 1))
        affordable = [setting for setting in settings if setting.cost <= cost * (1 + 1e-9)]
        chosen.append(max(affordable, key=lambda setting: setting.value))
    rows = {_result(setting): setting for setting in reversed(chosen)}  # of equals, the default
    for result, setting in sorted(rows.items(), key=lambda row: row[1].cost):
        table.add_row(f"alpha {setting.alpha:.4g}", *result)
    return table


def _result(setting: Setting) -> tuple[str, str]:
    return f"{setting.value:.1%}", dollars(1000 * setting.cost).removeprefix("$")
