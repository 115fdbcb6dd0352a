"""A chain on the terminal: its steps, each in its writer's colour, and what it cost."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from stepwise.cli.terminal import plain
from stepwise.engine.engine import Engine
from stepwise.models.pair import Pair
from stepwise.types import Step, Trace

COLOURS = ("green", "magenta", "cyan", "yellow")


def print_purpose(pair: Pair, console: Console) -> None:
    """What the models can be asked, where the pair says so."""
    if pair.purpose:
        console.print(Text(plain(pair.purpose), style="dim"))


def print_step(step: Step, engine: Engine, console: Console) -> None:
    """One line: who wrote it, the text, why; then the draft that it replaced."""
    colour = dict(zip(engine.models, COLOURS, strict=False)).get(step.model, "white")
    line = Text(f"{step.model:>7} ", style=f"bold {colour}")
    line.append(plain(step.text.rstrip()), style=colour)
    line.append(f"   {plain(step.decision.reason) if step.decision else ''}", style="dim")
    console.print(line)
    if step.draft is not None:
        console.print(Text(f"        instead of: {plain(step.draft.text.strip())}", style="dim strike"))


def print_cost(trace: Trace, engine: Engine, console: Console, budget: float | None = None) -> None:
    """The answer, the cost against the large model alone, and why the chain stopped if it gave no answer.

    Args:
        budget: that is promised on average, for those who see more of it spent here.
    """
    large, unit = engine.models[-1], engine.cost.unit
    alone = engine.cost_alone(trace, large)
    console.print(Text(f"\nanswer: {plain(trace.answer) or '(none)'}", style="bold"))
    share = f"{trace.cost / alone:.0%}" if alone else "-"
    console.print(
        f"cost: {trace.cost:.3g} {unit}; {large} alone, for a text of this length: "
        f"{alone:.3g} {unit} ({share})"
    )
    if budget is not None and trace.cost > budget * alone:
        console.print(
            f"The budget of {budget:.0%} holds on average over questions like the calibration ones; "
            "a single answer may take more."
        )
    if trace.stop != "answered":
        reason = trace.error or trace.stop or ""
        console.print(Text(f"the chain stopped before it gave an answer: {plain(reason)}", style="red"))
