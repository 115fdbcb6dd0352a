"""``stepwise scope choose``: the model to take for a question."""

from __future__ import annotations

import argparse

from rich.console import Console

from stepwise.cli.options import Commands
from stepwise.cli.scope_files import add_action, add_pool, open_folder


def add_parser(commands: Commands) -> None:
    action = add_action(commands, "choose", "the model to take for a question")
    action.add_argument("question")
    add_pool(action)
    knob = action.add_mutually_exclusive_group()
    knob.add_argument(
        "--alpha", type=float, default=0.5, help="0: the cheapest, 1: the likeliest to be right"
    )
    knob.add_argument(
        "--budget", type=float, help="expected cost per question, promised, instead of an alpha"
    )
    action.add_argument(
        "--delta", type=float, default=0.1, help="chance that the promise fails (default: %(default)s)"
    )
    action.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> None:
    """Print the model's name, then what was expected of it.

    Raises:
        ConfigError: if a file, a model or a price is missing, or a value is out of its range.
        InfeasibleTarget: if the budget cannot be promised.
    """
    scope = open_folder(options)
    alpha = options.alpha
    if options.budget is not None:
        setting = scope.alpha_for(options.budget, options.models, options.delta)
        alpha = setting.alpha
        console.print(
            f"alpha {alpha:.4g}: {setting.value:.1%} right at {setting.cost:.3g} a question on the anchors",
            highlight=False,
        )
    choice = scope.choose(options.question, options.models, alpha)
    chosen = next(estimate for estimate in choice.estimates if estimate.model == choice.model)
    console.print(choice.model, markup=False, highlight=False, soft_wrap=True)
    expected = f"expected right {chosen.p_correct:.0%}, {chosen.tokens:.0f} tokens, cost {chosen.cost:.3g}"
    console.print(expected, highlight=False)
    if choice.outside:
        console.print("The question is outside what the anchors cover: --outside decides.")
    for reason in scope.known.quarantined.values():
        console.print(f"left out: {reason}", markup=False, soft_wrap=True)
