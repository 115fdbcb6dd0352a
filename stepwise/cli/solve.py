"""``stepwise solve``: one question, with the model that wrote each step and why."""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.text import Text

from stepwise import load_pair
from stepwise.cli.options import Commands, add_routing
from stepwise.cli.terminal import plain
from stepwise.engine.engine import Engine, check_question
from stepwise.models.overrides import with_options
from stepwise.routers.named import named_router, pool
from stepwise.types import Trace

COLOURS = ("green", "magenta", "cyan", "yellow")


def add_parser(commands: Commands) -> None:
    command = commands.add_parser("solve", help="solve one question and show which model wrote each step")
    command.add_argument("question")
    add_routing(command)
    command.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> int:
    """Solve the question and print the chain; 1 if it gave no answer.

    Raises:
        StepwiseError: if an option is unusable; the question and the router are checked before a model loads.
    """
    check_question(options.question)
    pair, backend = with_options(load_pair(options.pair), options.backend, options.backend_option)
    router = named_router(
        options.router, pair, budget=options.budget, max_accuracy_loss=options.max_accuracy_loss,
        threshold=options.threshold, unit=pair.cost_model(options.cost).unit,
    )  # fmt: skip
    engine = pair.engine(backend=backend, cost=options.cost, models=pool(options.router, pair))
    trace = engine.solve_sync(options.question, router)
    engine.run(engine.close())
    _print_chain(trace, engine, console)
    _print_cost(trace, engine, console)
    return 0 if trace.stop == "answered" else 1


def _print_chain(trace: Trace, engine: Engine, console: Console) -> None:
    """One line a step: who wrote it, the text, why."""
    colours = dict(zip(engine.models, COLOURS, strict=False))
    for step in trace.steps:
        colour = colours.get(step.model, "white")
        line = Text(f"{step.model:>7} ", style=f"bold {colour}")
        line.append(plain(step.text.rstrip()), style=colour)
        line.append(f"   {plain(step.decision.reason) if step.decision else ''}", style="dim")
        console.print(line)
        if step.draft is not None:
            console.print(Text(f"        instead of: {plain(step.draft.text.strip())}", style="dim strike"))


def _print_cost(trace: Trace, engine: Engine, console: Console) -> None:
    large, unit = engine.models[-1], engine.cost.unit
    alone = engine.cost_alone(trace, large)
    console.print(Text(f"\nanswer: {plain(trace.answer) or '(none)'}", style="bold"))
    share = f"{trace.cost / alone:.0%}" if alone else "-"
    console.print(
        f"cost: {trace.cost:.3g} {unit}; {large} alone, for a text of this length: "
        f"{alone:.3g} {unit} ({share})"
    )
    if trace.stop != "answered":
        reason = trace.error or trace.stop or ""
        console.print(Text(f"the chain stopped before it gave an answer: {plain(reason)}", style="red"))
