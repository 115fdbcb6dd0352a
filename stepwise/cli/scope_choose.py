"""``stepwise scope choose``: the model to take for a question."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console

from stepwise.cli.options import Commands
from stepwise.cli.scope_files import ONE_MODEL, add_action, add_pool, dollars, nearest, open_folder

if TYPE_CHECKING:
    from stepwise.scope import Scope, Setting

ALPHA = 0.5


def add_parser(commands: Commands) -> None:
    action = add_action(commands, "choose", "the model to take for a question")
    action.add_argument("question")
    add_pool(action)
    knob = action.add_mutually_exclusive_group()
    knob.add_argument(
        "--alpha", type=float, default=ALPHA,
        help="0: the cheapest, 1: the likeliest to be right (default: %(default)s)",
    )  # fmt: skip
    knob.add_argument(
        "--budget",
        type=float,
        help="most dollars per question, expected and promised, instead of an alpha (`stepwise serve` takes "
        "a fraction of large-only cost)",
    )
    action.add_argument(
        "--delta", type=float, default=0.1, help="chance that the promise fails (default: %(default)s)"
    )
    action.add_argument(
        "--json",
        action="store_true",
        help="one JSON object: model, utility, estimates of all models, outside, alpha, left_out",
    )
    action.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> None:
    """Print the model's name, then what was expected of it.

    Raises:
        ConfigError: if a file, a model or a price is missing, or a value is out of its range.
        InfeasibleTarget: if the budget cannot be promised.
    """
    from stepwise.scope.decision import check_share
    from stepwise.scope.promise import check_promise

    check_share("alpha", options.alpha)
    if options.budget is not None:
        check_promise(options.budget, options.delta)
    scope = open_folder(options)

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    alpha, setting = options.alpha, None
    if options.budget is not None:
        setting = scope.alpha_for(options.budget, options.models, options.delta)
        alpha = setting.alpha
    choice = scope.choose(options.question, options.models, alpha, budget=options.budget)
    if options.json:
        found = {**asdict(choice), "alpha": alpha, "left_out": dict(scope.known.quarantined)}
        say(msgspec.json.encode(found).decode())
        return
    if setting is not None and not choice.outside:
        say(_promise(setting, options))
    chosen = next(estimate for estimate in choice.estimates if estimate.model == choice.model)
    say(choice.model)
    cost = dollars(chosen.cost or 0.0)
    say(f"expected right {chosen.p_correct:.0%}, {chosen.tokens:.0f} tokens, cost {cost}")
    if choice.outside:
        say(_outside(scope, choice.model, cost, options))
    say(nearest(scope, options.question))
    if len(choice.estimates) == 1:
        say(ONE_MODEL)
    for reason in scope.known.quarantined.values():
        say(f"left out: {reason}")


def _promise(setting: Setting, options: argparse.Namespace) -> str:
    """What the budget buys; a promise needs room, so that it seldom buys all of it."""
    right = f"{setting.value:.1%} right at {dollars(setting.cost)}"
    kept = f"promised within {dollars(options.budget)} with probability {1 - options.delta:.0%}"
    return f"alpha {setting.alpha:.4g}: {right} a question on the anchors, {kept}"


def _outside(scope: Scope, model: str, cost: str, options: argparse.Namespace) -> str:
    """Which rule chose a model for a question that the anchors do not cover, and whether it is over the
    budget."""
    within = " within the budget" if options.budget is not None else ""
    who = {"best": f"the best single model{within} answers", "estimates": "the estimates alone decide"}
    rule = who.get(options.outside, "the model that --outside names answers")
    text = f"This question is unlike the anchors, so {rule}: {model}, about {cost}."
    if options.budget is None:
        return text
    mean = scope.settings([model])[0].cost
    if mean <= options.budget:
        return text
    return f"{text} On the anchors it costs {dollars(mean)} a question, more than the budget."
