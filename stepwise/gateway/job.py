"""The chains of one request, running in a task of their own until done, failed or given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from stepwise.engine.backend import TRACE
from stepwise.engine.solution import Solution
from stepwise.gateway import breakers
from stepwise.gateway.admission import Admission, Ticket
from stepwise.gateway.answer_choice import AnswerChoice, Finished, Piece, Stopped
from stepwise.gateway.failures import backend_failure
from stepwise.gateway.order import Order, Outcome
from stepwise.gateway.tracing import Untraced
from stepwise.types import Trace

Settle = Callable[[Order, AnswerChoice, Finished, Outcome], None]
"""Books a chain, however it ended."""


class Job:
    """Runs an order. Iterate over it for its pieces; `close` it whatever happens.

    Pieces wait in memory for slow readers: a chain is a few kB, and the models go on to the next.
    """

    def __init__(self, order: Order, admission: Admission, settle: Settle, tracing: Untraced) -> None:
        ticket = admission.ask(order.tenant, len(order.problems))
        self.order = order
        self.choices = [
            AnswerChoice(
                i, order.stops, order.alone(i), self._put, formed=problem.form is not None,
                think_ends=order.engines[i].think_ends if order.apart else {},
            )
            for i, problem in enumerate(order.problems)
        ]  # fmt: skip
        self._settle, self._tracing = settle, tracing
        self._pieces: asyncio.Queue[Piece | None] = asyncio.Queue()
        self._task = asyncio.create_task(self._run(ticket, admission.limits.seconds))
        self._task.add_done_callback(lambda _: self._over(admission, ticket))

    async def __aiter__(self) -> AsyncIterator[Piece]:
        while (piece := await self._pieces.get()) is not None:
            yield piece
        await self.raise_failure()

    async def paced(self, seconds: float) -> AsyncIterator[Piece | None]:
        """The pieces, and None whenever there has been none for so many seconds.

        No piece gets a task of its own: where hundreds of chains share a batch, all of them have their turn
        before one goes on, and a step would wait through three turns of the event loop instead of one.
        """
        while True:
            try:
                async with asyncio.timeout(seconds):
                    piece = await self._pieces.get()
            except TimeoutError:
                yield None
                continue
            if piece is None:
                break
            yield piece
        await self.raise_failure()

    async def close(self) -> None:
        """Stop what still runs, on the backends too."""
        self._task.cancel()
        await asyncio.wait({self._task})

    async def raise_failure(self) -> None:
        """Raise what a finished job failed of, if it did; of several chains' failures the first."""
        try:
            await self._task
        except BaseExceptionGroup as group:
            raise _first(group) from group

    def _over(self, admission: Admission, ticket: Ticket) -> None:
        admission.release(ticket)
        self.order.reserved.release()
        self._pieces.put_nowait(None)

    def _put(self, piece: Piece) -> None:
        self._pieces.put_nowait(piece)

    async def _run(self, ticket: Ticket, seconds: float) -> None:
        async with asyncio.timeout(seconds):
            await ticket.turn
            await self.order.reserved.admit()
            async with asyncio.TaskGroup() as group:
                for choice in self.choices:
                    group.create_task(self._grow(choice))

    async def _grow(self, choice: AnswerChoice) -> None:
        order, engine = self.order, self.order.engines[choice.index]
        problem = replace(order.problems[choice.index], id=f"{order.id}-{choice.index}")
        TRACE.set(self._tracing.begin(order, choice.index))
        solution = engine.solve(problem, order.router)
        outcome: Outcome = "failed"
        try:
            trace = await _finished(solution, choice, deltas=order.stream)
            if trace.stop == "error":
                passes = solution.failure is not None and solution.failure.retryable
                later = passes or breakers.any_unable(engine.backends.values())
                raise backend_failure(trace.error or "a model failed.", retryable=later)
            outcome = "finished"
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        finally:
            trace = solution.trace or Trace(problem)
            end = choice.ending(trace, engine.cost_alone(trace, engine.models[-1]))
            self._settle(order, choice, end, outcome)
            self._tracing.end(order, choice.index, choice.steps, end, outcome, engine.cost.unit)
        choice.finish(end)


async def _finished(solution: Solution, choice: AnswerChoice, *, deltas: bool) -> Trace:
    try:
        return await solution.finish(choice.hear, deltas=deltas)
    except Stopped:
        if solution.trace is None:
            raise
        return solution.trace


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
