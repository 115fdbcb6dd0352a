"""A chain in the making: the handle that `Engine.solve` gives out.

    trace = await engine.solve(problem, router)             # the whole chain

    chain = engine.solve(problem, router)
    async for step in chain: ...                            # its steps, as they come
    async for event in chain.events(): ...                  # text as it is generated, and steps
    chain.trace                                             # what there is of it, at any time

Leaving an iteration early, or cancelling whoever waits, stops the generation on the backend.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stepwise.types import Problem, Router, Step, Trace

if TYPE_CHECKING:
    from stepwise.engine import Engine


@dataclass(frozen=True, slots=True)
class Delta:
    """New text of a step whose writer is decided, while it is being generated."""

    text: str
    model: str


Event = Delta | Step
"""A finished step comes as a `Step`, whether or not its text came before in deltas."""


@dataclass(slots=True)
class Deltas:
    """Tells a listener what a model writes.

    Attributes:
        told: whether there has been anything to tell.
    """

    listen: Callable[[Event], None]
    model: str
    told: bool = False

    def __call__(self, text: str) -> None:
        if text:
            self.told = True
            self.listen(Delta(text, self.model))


class Chain:
    """Grows one chain with one router. To be used once: awaited, or iterated over.

    Attributes:
        trace: the chain so far; None before it has begun.
    """

    def __init__(self, engine: Engine, problem: Problem | str, router: Router) -> None:
        self.trace: Trace | None = None
        self._engine = engine
        self._problem = problem
        self._router = router

    def __await__(self) -> Generator[Any, None, Trace]:
        return self.finish().__await__()

    async def finish(self, listen: Callable[[Event], None] | None = None, *, deltas: bool = True) -> Trace:
        """Grow the chain to its end, and tell a listener what happens on the way: steps, or also deltas.

        Raises:
            ConfigError: if the question is empty or too long.
        """
        trace = self.trace = self._engine.start(self._problem)
        try:
            while trace.stop is None:
                known = len(trace.steps)
                trace = self.trace = await self._engine.step(trace, self._router, listen if deltas else None)
                if listen is not None and len(trace.steps) > known:
                    listen(trace.steps[-1])
            return trace
        finally:
            self.trace = await self._engine.abandon(trace)

    async def events(self, *, deltas: bool = True) -> AsyncIterator[Event]:
        """What happens, as it happens: `Delta` and `Step`."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        work = asyncio.create_task(self.finish(queue.put_nowait, deltas=deltas))
        work.add_done_callback(lambda _: queue.put_nowait(None))
        try:
            while (event := await queue.get()) is not None:
                yield event
            await work
        finally:
            work.cancel()
            await asyncio.wait({work})

    async def __aiter__(self) -> AsyncIterator[Step]:
        async for event in self.events(deltas=False):
            if isinstance(event, Step):
                yield event
