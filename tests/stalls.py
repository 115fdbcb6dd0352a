"""A stall detector for event loops."""

from __future__ import annotations

import asyncio
import time


async def largest_gap(stop: asyncio.Event) -> float:
    """The longest time between two turns of a task that never waits: how long the loop was held up."""
    gap, last = 0.0, time.perf_counter()
    while not stop.is_set():
        await asyncio.sleep(0)
        now = time.perf_counter()
        gap, last = max(gap, now - last), now
    return gap
