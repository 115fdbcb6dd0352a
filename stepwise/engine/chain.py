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

from stepwise.errors import BackendError
from stepwise.types import Decision, Problem, Router, Step, Trace, expects

if TYPE_CHECKING:
    from stepwise.engine.engine import Engine


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
    """Grows one chain with one router, past models that fail if the engine may. To be used once: awaited, or
    iterated over.

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
                trace = self.trace = await self._step(trace, listen if deltas else None)
                if listen is not None and len(trace.steps) > known:
                    listen(trace.steps[-1])
            return trace
        finally:
            self.trace = await self._engine.abandon(trace)

    async def _step(self, trace: Trace, listen: Callable[[Event], None] | None) -> Trace:
        """Ask the router and advance. A model that fails marks the trace; it does not raise."""
        engine, router = self._engine, self._router
        hear: Deltas | None = None
        try:
            trace = await engine.look(trace, router.look, expects=expects(router))
            decision = router.decide(trace)
            hear = Deltas(listen, decision.model) if listen else None
            return await engine.advance(trace, decision.model, decision, hear)
        except BackendError as error:
            return await self._without(trace, error, told=hear is not None and hear.told)

    async def _without(self, trace: Trace, error: BackendError, *, told: bool) -> Trace:
        """A step without the model that failed, by the next one that can be run, if the engine may.
        What a listener was ``told`` of it cannot be taken back: then the chain has failed."""
        engine = self._engine
        may = engine.failover and not told
        others = [name for name in engine.models if name != error.model] if may else []
        trace = await engine.spent(trace, error)
        for model in others:
            reason = f"{error.model} cannot be run ({error}); {model} takes over"
            try:
                return await engine.advance(trace, model, Decision(model, None, reason))
            except BackendError as another:
                trace = await engine.spent(trace, another)
        return await engine.failed(trace, error.left(trace))

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
