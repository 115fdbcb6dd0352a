"""What goes wrong in an audit: connections that break, a server that dies, a chain that is given up."""

from __future__ import annotations

import asyncio
import random

from stepwise.backends.scripted import ScriptedBackend
from stepwise.errors import BackendError
from stepwise.types import Trace


class Trouble:
    """Breaks connections, kills a server and cancels the chain, at random moments of the
    servers' work.

    Args:
        share: of the chains in which a server is killed, and of those that are cancelled; with 0 nothing
            breaks.

    Attributes:
        task: that solves the chain.
    """

    task: asyncio.Future[Trace]

    def __init__(self, rng: random.Random, share: float = 0.2) -> None:
        self._moment = 0
        self._breaks = {rng.randint(1, 60) for _ in range(rng.randint(0, 3))} if share else set()
        self._kills = rng.randint(1, 60) if rng.random() < share else None
        self._cancels = rng.randint(1, 60) if rng.random() < share else None
        self._dead: set[str] = set()

    async def connect(self, name: str) -> None:
        await asyncio.sleep(0)
        if name in self._dead:
            raise BackendError("the server is down.")

    async def write(self, name: str) -> None:
        self._moment += 1
        if self._moment == self._cancels:
            self.task.cancel()
        await asyncio.sleep(0)
        if self._moment == self._kills:
            self._dead.add(name)
        if self._moment in self._breaks or name in self._dead:
            raise BackendError("the connection broke.", retryable=True)


def server(name: str, trouble: Trouble) -> ScriptedBackend:
    """A model that adds up the question's numbers, one a line. The small one is unsure of large numbers, and
    the judge doubts every second line."""
    made = ScriptedBackend(
        (lambda text: "+" if text.count("\n") % 2 else "-") if name == "judge" else sums,
        logprob=(lambda line: -1.0 if "8" in line else -0.01),
        before=lambda _: trouble.connect(name),
    )
    made.during = lambda _: trouble.write(name)
    return made


def sums(text: str) -> str:
    """What follows a question and the lines so far, of which the last may be unfinished."""
    question, _, chain = text.partition("\n")
    *done, begun = chain.split("\n")
    numbers = [int(number) for number in question.split()]
    lines = [
        f"{sum(numbers[:i])} + {number} = {sum(numbers[: i + 1])}.\n" for i, number in enumerate(numbers)
    ]
    rest = "".join(lines[len(done) :]) + f"The answer is {sum(numbers)}."
    return rest[len(begun) :]
