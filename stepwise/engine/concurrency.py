"""Running work: from synchronous code, and side by side."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar

from stepwise.errors import ConfigError, StepwiseError

S = TypeVar("S")
T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end from synchronous code, also in notebooks.

    All of a process share one event loop in a thread of its own. An interrupt cancels the work.

    Raises:
        StepwiseError: if it is called from that loop, which would wait for itself.
    """
    loop = _shared_loop()
    if asyncio._get_running_loop() is loop:
        work.close()
        raise StepwiseError("a coroutine cannot be run from within the engine's event loop; await it.")
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


async def as_they_finish(
    work: Callable[[S], Coroutine[Any, Any, T]], items: Iterable[S], concurrency: int
) -> AsyncIterator[T]:
    """Results of ``work`` on every item, at most ``concurrency`` of them in flight.

    Items are drawn as there is room. Leaving the iterator early cancels what is in flight.

    Raises:
        ConfigError: if ``concurrency`` is less than 1.
    """
    if concurrency < 1:
        raise ConfigError(f"concurrency must be at least 1, not {concurrency}.")
    waiting, running = iter(items), set[asyncio.Task[T]]()
    ended = asyncio.Queue[asyncio.Task[T]]()  # `asyncio.wait` would look at all that run for each that ends
    try:
        while True:
            for item in islice(waiting, concurrency - len(running)):
                task = asyncio.create_task(work(item))
                task.add_done_callback(ended.put_nowait)
                running.add(task)
            if not running:
                return
            task = await ended.get()
            running.remove(task)
            yield task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


@lru_cache
def _shared_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="stepwise", daemon=True).start()
    return loop
