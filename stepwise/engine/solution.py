"""A solution under way: the handle that `Engine.solve` gives out.

    trace = await engine.solve(problem, router)             # the whole chain

    solution = engine.solve(problem, router)
    async for step in solution: ...                         # its steps, as they come
    async for event in solution.events(): ...               # text as it is generated, and steps
    solution.trace                                          # what there is of it, at any time

Leaving an iteration early, or cancelling whoever waits, stops the generation on the backend. What it took
until then is charged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol

from stepwise.engine.chain import Chain
from stepwise.engine.lookahead import Listener
from stepwise.errors import BackendError
from stepwise.types import Decision, Look, Problem, Router, Step, Trace, expects


class Transitions(Protocol):
    """What a solution needs of an engine; see `stepwise.engine.engine.Engine`."""

    models: tuple[str, ...]
    failover: bool

    def start(self, problem: Problem | str) -> Chain: ...

    async def look(self, chain: Chain, look: Look, *, expects: bool = False) -> None: ...

    async def advance(
        self, chain: Chain, model: str, decision: Decision | None = None, listen: Listener | None = None
    ) -> Step: ...

    async def abandon(self, chain: Chain) -> None: ...

    async def fail(self, chain: Chain, error: BackendError) -> None: ...


@dataclass(frozen=True, slots=True)
class Delta:
    """New text of a step whose writer is decided, while it is being generated."""

    text: str
    model: str


Event = Delta | Step
"""A finished step comes as a `Step`, whether or not its text came before in deltas."""


class Deltas:
    """Tells a listener what a model writes.

    Attributes:
        heard: whether there has been anything to tell.
    """

    def __init__(self, listen: Callable[[Event], None], model: str) -> None:
        self.heard = False
        self._listen, self._model = listen, model

    def __call__(self, text: str) -> None:
        if text:
            self.heard = True
            self._listen(Delta(text, self._model))


class Solution:
    """Grows one chain with one router, past models that fail if the engine may. To be used once: awaited, or
    iterated over.
    """

    def __init__(self, engine: Transitions, problem: Problem | str, router: Router) -> None:
        self._engine = engine
        self._problem = problem
        self._router = router
        self._chain: Chain | None = None

    @property
    def trace(self) -> Trace | None:
        """The chain so far; None before it has begun."""
        return self._chain.trace if self._chain else None

    def __await__(self) -> Generator[Any, None, Trace]:
        return self.finish().__await__()

    async def finish(self, listen: Callable[[Event], None] | None = None, *, deltas: bool = True) -> Trace:
        """Grow the chain to its end, and tell a listener what happens on the way: steps, or also deltas.

        Raises:
            ConfigError: if the question is empty or too long.
        """
        chain = self._chain = self._engine.start(self._problem)
        try:
            while chain.trace.stop is None:
                step = await self._step(chain, listen if deltas else None)
                if listen is not None and step is not None:
                    listen(step)
        finally:
            await self._engine.abandon(chain)
        return chain.trace

    async def _step(self, chain: Chain, listen: Callable[[Event], None] | None) -> Step | None:
        """Ask the router and advance. A model that fails marks the trace; it does not raise."""
        engine, router = self._engine, self._router
        hear: Deltas | None = None
        try:
            await engine.look(chain, router.look, expects=expects(router))
            decision = router.decide(chain.trace)
            hear = Deltas(listen, decision.model) if listen else None
            return await engine.advance(chain, decision.model, decision, hear)
        except BackendError as error:
            return await self._without(chain, error, heard=hear is not None and hear.heard)

    async def _without(self, chain: Chain, error: BackendError, *, heard: bool) -> Step | None:
        """A step without the model that failed, by the next one that can be run, if the engine may.
        What a listener has ``heard`` of it cannot be taken back: then the chain has failed."""
        engine = self._engine
        may = engine.failover and not heard
        for model in engine.models if may else ():
            if model == error.model:
                continue
            reason = f"{error.model} cannot be run ({error}); {model} takes over"
            try:
                return await engine.advance(chain, model, Decision(model, None, reason))
            except BackendError:
                continue  # the first failure is the one to tell
        await engine.fail(chain, error)
        return None

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
