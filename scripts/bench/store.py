"""The step store: reads and writes per second, in a file and on a server, by one client and by eight.

Clients are processes; each writes completions of its own, thirty tokens long, and reads them in random order,
one a call and 64 a call.
"""

from __future__ import annotations

import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from stepwise.engine.backend import Completion
from stepwise.store.opening import open_store
from stepwise.types import Signals, Usage

CLIENTS = (1, 8)
BATCH = 64
COMPLETION = Completion("a step\n" * 12, tuple(range(30)), Usage(90, 60, 30), Signals(-0.1, -0.2), "stop")


def measure(server: str, entries: int) -> dict[str, Any]:
    """Calls per second of all clients together.

    Args:
        server: address of a Redis server, "" for none.
        entries: that each client writes and reads, a tenth of it where each takes a call of its own.
    """
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for clients in CLIENTS:
            stores = {"sqlite": str(Path(folder) / f"{clients}.db"), **({"redis": server} if server else {})}
            for name, address in stores.items():
                for what, rate in _together(address, clients, entries).items():
                    figures[f"{name}_{what}_{clients}"] = rate
    return figures


def _together(address: str, clients: int, entries: int) -> dict[str, float]:
    """Entries per second by kind of call: the sum over clients that start at the same moment."""
    spawn = multiprocessing.get_context("spawn")
    start, done = spawn.Barrier(clients), spawn.SimpleQueue()
    processes = [spawn.Process(target=_client, args=(address, entries, start, done)) for _ in range(clients)]
    for process in processes:
        process.start()
    rates = [done.get() for _ in processes]
    for process in processes:
        process.join()
    return {what: sum(rate[what] for rate in rates) for what in rates[0]}


def _client(address: str, entries: int, start: Barrier, done: Any) -> None:
    store, draw = open_store(address), random.Random()
    keys = [draw.randbytes(16) for _ in range(entries)]
    single = [draw.randbytes(16) for _ in range(entries // 10)]
    pages = [keys[i : i + BATCH] for i in range(0, entries - BATCH + 1, BATCH)]
    calls: dict[str, tuple[Sequence[Any], int, Callable[[Any], Any]]] = {
        "writes": (single, 1, lambda key: store.put(key, COMPLETION)),
        "batched_writes": (pages, BATCH, lambda page: store.put_many((key, COMPLETION) for key in page)),
        "reads": (draw.sample(single, len(single)), 1, store.get),
        "batched_reads": (draw.sample(pages, len(pages)), BATCH, store.get_many),
    }
    rates = {}
    for what, (items, size, call) in calls.items():
        start.wait()
        began = time.perf_counter()
        for item in items:
            call(item)
        rates[what] = len(items) * size / (time.perf_counter() - began)
    done.put(rates)
