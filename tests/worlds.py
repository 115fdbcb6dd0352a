"""Small worlds for tests: scripted models that add numbers up, one of them badly.

The question is a list of numbers, "1 2 3". A chain adds one number a line and closes with "The
answer is N." The large model is always right; the small one adds one too many to every number
that is at least ``hard``, and its draft's log-probability says so.
"""

from __future__ import annotations

import asyncio
import re

from stepwise.backends.scripted import ScriptedBackend
from stepwise.engine.cost import CostModel, Flops
from stepwise.engine.engine import Engine
from stepwise.engine.judge import Judge
from stepwise.engine.stop_rules import StepRule
from stepwise.types import Problem, Trace

SIZES = {"small": 1, "large": 20}


def adder(hard: int | None = None) -> ScriptedBackend:
    """A model that adds; numbers from ``hard`` on come out one too large."""

    def script(text: str) -> str:
        question, _, chain = text.partition("\n")
        numbers = [int(n) for n in question.split()]
        lines = chain.split("\n")
        done, begun = lines[:-1], lines[-1]
        total = int(done[-1].split("= ")[-1].rstrip(".")) if done else 0
        rest = []
        for number in numbers[len(done) :]:
            wrong = hard is not None and number >= hard
            rest.append(f"{total} + {number} = {total + number + wrong}.\n")
            total += number + wrong
        rest.append(f"The answer is {total}.")
        return "".join(rest)[len(begun) :]

    def logprob(written: str) -> float:
        found = re.match(r"\d+ \+ (\d+)", written)
        unsure = hard is not None and found is not None and int(found[1]) >= hard
        return -1.0 if unsure else -0.01

    return ScriptedBackend(script, logprob=logprob, parameters=SIZES["large" if hard is None else "small"])


def checker() -> ScriptedBackend:
    """A judge: "+" if the last line adds up, else "-"."""

    def script(text: str) -> str:
        line = text.rstrip("\n").split("\n")[-1]
        found = re.match(r"(\d+) \+ (\d+) = (\d+)\.", line)
        return "-" if found and int(found[1]) + int(found[2]) != int(found[3]) else "+"

    return ScriptedBackend(script, parameters=SIZES["large"])


class Crowd:
    """Counts the generations that a scripted backend has in flight."""

    def __init__(self) -> None:
        self.running = self.peak = 0

    async def __call__(self, _: str) -> None:
        self.running += 1
        self.peak = max(self.peak, self.running)
        await asyncio.sleep(0)
        self.running -= 1


def engine(
    hard: int = 5,
    cost: CostModel | None = None,
    max_steps: int = 32,
    judge: ScriptedBackend | None = None,
    lookahead: bool = False,
) -> Engine:
    """A small and a large adder that share their chains."""
    return Engine(
        {"small": adder(hard), "large": adder()},
        prompt="{question}\n",
        rule=StepRule("\n", 64, max_steps),
        cost=cost or Flops({**SIZES, "judge": SIZES["large"]}),
        judge=Judge(judge) if judge else None,
        lookahead=("small", "large") if lookahead else (),
    )


def writers(trace: Trace) -> set[str]:
    """Who wrote the steps of a chain."""
    return {step.model for step in trace.steps}


def problem(*numbers: int) -> Problem:
    text = " ".join(map(str, numbers))
    return Problem(f"sum-{text}", text, str(sum(numbers)))
