"""``stepwise solve``: one question, with the model that wrote each step and why."""

from __future__ import annotations

import argparse

from rich.console import Console

from stepwise import load_pair
from stepwise.cli.chain import print_cost, print_purpose, print_step
from stepwise.cli.options import Commands, add_routing
from stepwise.cli.waiting import wait_for_servers
from stepwise.engine.engine import check_question
from stepwise.models.overrides import with_options
from stepwise.routers.named import named_router, pool, promised
from stepwise.types import Trace

REASON = (
    "The reason beside each step, 'gain per cost 2.95 >= 0.50', says that the large model is expected to add "
    "2.95 to the probability of a right answer per unit of cost, 1 being a whole answer by it alone, and "
    "that the threshold is 0.50."
)


def add_parser(commands: Commands) -> None:
    summary = "solve one question and show which model wrote each step"
    command = commands.add_parser("solve", help=summary, description=f"{summary}. {REASON}")
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
    print_purpose(pair, console)
    engine = pair.engine(backend=backend, cost=options.cost, models=pool(options.router, pair))

    async def solved() -> Trace:
        await wait_for_servers(engine, console)
        return await engine.solve(options.question, router)

    trace = engine.run(solved())
    engine.run(engine.close())
    for step in trace.steps:
        print_step(step, engine, console)
    budget = promised(router, options.budget, options.max_accuracy_loss, options.threshold)
    print_cost(trace, engine, console, budget)
    return 0 if trace.stop == "answered" else 1
