"""A look before hours of training: five problems a model, what they say of the run, and what it may take."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from policies.reference import measure_ends
from stepwise.engine.engine import Engine
from stepwise.errors import ConfigError
from stepwise.routers import Always
from stepwise.types import Look, Problem, Trace

PROBLEMS = 5


@dataclass(frozen=True)
class Preflight:
    """What a few problems say of a training.

    Attributes:
        doubts: whether there is anything to gain.
        calls: generations, at most.
        tokens: generated, at most.
        hours: at the pace of the few problems, at most.
        cost: at most.
        unit: of the cost.
    """

    doubts: tuple[str, ...]
    calls: float
    tokens: float
    hours: float
    cost: float
    unit: str

    def __str__(self) -> str:
        span = f"{self.hours:.2g} hours" if self.hours >= 1 else f"{60 * self.hours:.2g} minutes"
        return (
            f"training takes at most {self.calls:,.0f} generations, {self.tokens:,.0f} tokens, "
            f"{self.cost:.3g} {self.unit} and, at this pace, {span}; what the store has takes nothing"
        )


def preflight(engine: Engine, problems: Sequence[Problem], look: Look, steps: int) -> Preflight:
    """Solve a few problems with each end of the pool alone.

    Args:
        steps: of the training.

    Raises:
        BackendError: if a model cannot be run.
        ConfigError: if the policy would read log-probabilities that nobody gives, or small-only costs
            more than large-only.
    """
    few, began = problems[:PROBLEMS], time.perf_counter()
    ends = engine.run(measure_ends(engine, few))
    ends.check(None, engine.cost.unit)
    chains = [engine.solve_sync(problem, Always(engine.models[0], look)) for problem in few]
    took = time.perf_counter() - began
    _check_logprobs(chains, look, engine.models[0])
    doubts = []
    if ends.large_accuracy <= max(ends.small_accuracy, 0.0):
        doubts.append(
            f"large-only is right on {ends.large_accuracy:.0%} of {len(few)} problems and small-only on "
            f"{ends.small_accuracy:.0%}: there may be nothing to gain."
        )
    written = sum(len(trace.steps) for trace in chains)
    tokens = sum(step.length for trace in chains for step in trace.steps)
    each = sum(trace.cost for trace in chains) / written + ends.large_cost * len(few) / written
    calls = 2 * steps  # a draft, and a step in its place
    return Preflight(
        tuple(doubts),
        calls,
        calls * tokens / written,
        took / (3 * written) * calls / 3600,
        each * steps,
        engine.cost.unit,
    )


def _check_logprobs(chains: Sequence[Trace], look: Look, model: str) -> None:
    if look != "before" and any(step.signals.missing for trace in chains for step in trace.steps):
        raise ConfigError(
            f"policy.look: {look} reads log-probabilities, which model {model!r} does not give; set "
            "logprobs: true among its backend's options if the server returns them, or train with "
            "policy.look=before."
        )


def consent(ahead: Preflight, console: Console, *, yes: bool) -> None:
    """Show what was seen, and go on only if whoever watches wants to.

    Raises:
        ConfigError: if not, or if there are doubts and nobody can be asked.
    """
    console.print(f"preflight: {ahead}")
    for sentence in ahead.doubts:
        console.print(f"  {sentence}")
    if yes:
        return
    if not sys.stdin.isatty():
        if ahead.doubts:
            raise ConfigError(f"preflight: {ahead.doubts[0]} Pass --yes to train all the same.")
        return
    if input("train? [y/N] ").strip().lower() not in ("y", "yes"):
        raise ConfigError("preflight: not confirmed; nothing was trained.")
