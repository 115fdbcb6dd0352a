"""Many small calls to a store that is far away, made in few round trips.

While one round trip is under way, the calls that arrive wait for the next one and go together: a single
call is never delayed, and a thousand take two trips.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

S = TypeVar("S")
T = TypeVar("T")

LARGEST = 512
"""Calls in a round trip."""


class Batches(Generic[S, T]):
    """Calls of one event loop, gathered.

    Args:
        work: makes a round trip; it runs in a thread. Results are in the order of the items.
    """

    def __init__(self, work: Callable[[Sequence[S]], Sequence[T]]) -> None:
        self._work = work
        self._waiting: list[tuple[S, asyncio.Future[T]]] = []
        self._running: asyncio.Task[None] | None = None

    async def __call__(self, item: S) -> T:
        """The result of one item.

        Raises:
            Exception: what its round trip raised.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:LARGEST], self._waiting[LARGEST:]
                await self._trip([item for item, _ in batch], [future for _, future in batch])
        finally:
            self._running = None

    async def _trip(self, items: Sequence[S], futures: Sequence[asyncio.Future[T]]) -> None:
        try:
            results = await asyncio.to_thread(self._work, items)
        except Exception as error:
            for future in futures:
                if not future.done():
                    future.set_exception(error)
            return
        for future, result in zip(futures, results, strict=True):
            if not future.done():  # its caller may have been cancelled
                future.set_result(result)
