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
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from stepwise.engine.backend import WAIT, Wait
from stepwise.engine.chain import Chain
from stepwise.engine.deciding import check_look, decide
from stepwise.engine.lookahead import Listener
from stepwise.errors import BackendError, RequestRefused
from stepwise.types import Decision, Look, Problem, Router, Step, Trace, expects, named, whole


class Transitions(Protocol):
    """What a solution needs of an engine; see `stepwise.engine.engine.Engine`."""

    models: tuple[str, ...]
    failover: bool

    def start(self, problem: Problem | str) -> Chain:
        """An empty chain for a question."""
        ...

    async def look(self, chain: Chain, look: Look, *, expects: bool = False) -> None:
        """Put into the trace what a router wants to see."""
        ...

    async def fitted(self, chain: Chain, decision: Decision, *, fixed: bool) -> Decision:
        """Who writes, where the chosen model may not be able to."""
        ...

    async def advance(
        self,
        chain: Chain,
        model: str,
        decision: Decision | None = None,
        listen: Listener | None = None,
        *,
        whole: bool = False,
    ) -> Step:
        """Append one step; ``whole`` lets it be the rest of the chain."""
        ...

    async def abandon(self, chain: Chain) -> None:
        """Stop what runs behind a chain that goes no further."""
        ...

    async def fail(self, chain: Chain, error: BackendError) -> None:
        """End a chain as a failure left it."""
        ...

    async def reachable(self, model: str) -> bool: ...

    async def back(self, models: Sequence[str]) -> bool: ...


@dataclass(frozen=True, slots=True)
class Delta:
    """New text of a step whose writer is decided, while it is being generated."""

    text: str
    model: str


Event = Delta | Step
"""A finished step comes as a `Step`, whether or not its text came before in deltas."""
Hear = Callable[[Event], None]


class Deltas:
    """Tells a listener what a model writes.

    Attributes:
        heard: whether there has been anything to tell.
    """

    def __init__(self, listen: Hear, model: str) -> None:
        self.heard = False
        self._listen, self._model = listen, model

    def __call__(self, text: str) -> None:
        if text:
            self.heard = True
            if WAIT.get() == "handover":  # nobody can take over now
                WAIT.set("restart")
            self._listen(Delta(text, self._model))


class Solution:
    """Grows one chain with one router, past models that fail if the engine may. To be used once: awaited, or
    iterated over.

    Attributes:
        failure: what ended the chain, if a failure did.
    """

    def __init__(self, engine: Transitions, problem: Problem | str, router: Router) -> None:
        self._engine = engine
        self._problem = problem
        self._router = router
        self._chain: Chain | None = None
        self._heard = False
        self.failure: BackendError | None = None

    @property
    def trace(self) -> Trace | None:
        """The chain so far; None before it has begun."""
        return self._chain.trace if self._chain else None

    def __await__(self) -> Generator[Any, None, Trace]:
        return self.finish().__await__()

    async def finish(self, listen: Hear | None = None, *, deltas: bool = True) -> Trace:
        """Grow the chain to its end, and tell a listener what happens on the way: steps, or also deltas.

        Raises:
            ConfigError: if the question is empty or too long.
            RouterError: if the router's code is wrong.
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

    async def _step(self, chain: Chain, listen: Hear | None) -> Step | None:
        """A step by the model that the router chooses, or by another one. A model that fails marks the trace;
        it does not raise.

        While another model may be up, each is tried only briefly. When all have failed, one that is there and
        fails in a way that may pass is waited for as long as its backend does by itself; where nobody is
        there, whoever is back first from a restart writes. What a listener has heard of a step cannot be
        taken back: then no other model writes it.
        """
        while True:
            failures: list[BackendError] = []
            step = await self._by_anybody(chain, listen, failures)
            if step is None and len(failures) > 1:
                step = await self._by_one_that_is_there(chain, listen, failures)
            if step is not None:
                return step
            alone = self._heard or len(failures) == 1
            if alone or not await self._engine.back([failure.model for failure in failures]):
                break
        self.failure = _told(failures) if self._engine.failover else failures[0]
        await self._engine.fail(chain, self.failure)
        return None

    async def _by_anybody(
        self, chain: Chain, listen: Hear | None, failures: list[BackendError]
    ) -> Step | None:
        """A step by the first model that writes one soon."""
        spare = self._spare()
        wait: Wait = "handover" if spare else "restart" if self._engine.failover else WAIT.get()
        step = await _tried(self._routed(chain, listen), wait, failures)
        for model in spare:
            if step is None and not self._heard and model != failures[0].model:
                step = await _tried(self._taken_over(chain, model, failures[0]), wait, failures)
        return step

    async def _by_one_that_is_there(
        self, chain: Chain, listen: Hear | None, failures: list[BackendError]
    ) -> Step | None:
        """A step by the first model whose failure may pass, and whose server can be reached."""
        for failure in failures:
            if failure.retryable and await self._engine.reachable(failure.model):
                first = failure is failures[0]
                other = None if first else self._taken_over(chain, failure.model, failures[0])
                return await _tried(other or self._routed(chain, listen), "restart", failures)
        return None

    async def _taken_over(self, chain: Chain, model: str, failure: BackendError) -> Step:
        """A step by another model than the one that failed."""
        reason = f"{failure.model} cannot be run ({failure}); {model} takes over"
        step = await self._engine.advance(chain, model, Decision(model, None, reason))
        chain.trace = replace(chain.trace, degraded=chain.trace.degraded or f"{reason}.")
        return step

    async def _routed(self, chain: Chain, listen: Hear | None) -> Step:
        """Ask the router, once more if it wants to see more, and advance."""
        engine, router = self._engine, self._router
        self._heard = False
        check_look(router, router.look)
        await engine.look(chain, router.look, expects=expects(router))
        decision = decide(router, chain.trace, engine.models)
        if decision.look is not None:
            await engine.look(chain, decision.look)
            decision = decide(router, chain.trace, engine.models)
        if chain.trace.problem.form is not None:
            decision = await engine.fitted(chain, decision, fixed=bool(named(router)))
        hear = Deltas(listen, decision.model) if listen else None
        try:
            return await engine.advance(chain, decision.model, decision, hear, whole=whole(router))
        finally:
            self._heard = hear is not None and hear.heard

    def _spare(self) -> tuple[str, ...]:
        """Models that may take over from one that fails. One that the caller named is never replaced."""
        engine = self._engine
        return engine.models if engine.failover and not named(self._router) and len(engine.models) > 1 else ()

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


async def _tried(write: Awaitable[Step], wait: Wait, failures: list[BackendError]) -> Step | None:
    """The step, or None and one failure more."""
    token = WAIT.set(wait)
    try:
        return await write
    except BackendError as error:
        failures.append(error)
        return None
    finally:
        WAIT.reset(token)


def _told(failures: Sequence[BackendError]) -> BackendError:
    """The failures of several models as one; what is wrong with a request is told as it is."""
    if isinstance(failures[0], RequestRefused):
        return failures[0]
    last = {failure.model: str(failure).rstrip(".") for failure in failures}
    reasons = "; ".join(f"{model or 'a model'} cannot be run: {why}" for model, why in last.items())
    passes = any(failure.retryable for failure in failures)
    return BackendError(f"{reasons}.", retryable=passes, model=failures[0].model)
