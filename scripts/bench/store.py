"""The step store: reads and writes per second, in a file and on a server, by one client and by eight.

Clients are processes; each writes completions of its own, thirty tokens long, and reads them in random order,
one a call and 64 a call.
"""

from __future__ import annotations

import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable, Iterable
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
    barrier = spawn.Barrier(clients)
    with spawn.Pool(clients, initializer=_meet, initargs=(barrier,)) as pool:
        rates = pool.starmap(_client, [(address, entries)] * clients, chunksize=1)
    return {what: sum(rate[what] for rate in rates) for what in rates[0]}


_meeting: list[Any] = []  # in each client's process: where all of them wait for the last one


def _meet(barrier: Any) -> None:
    _meeting.append(barrier)


def _client(address: str, entries: int) -> dict[str, float]:
    store, draw = open_store(address), random.Random()
    keys = [draw.randbytes(16) for _ in range(entries)]
    single = [draw.randbytes(16) for _ in range(entries // 10)]
    pages = [keys[i : i + BATCH] for i in range(0, entries, BATCH)]
    return {
        "writes": _rate(single, len(single), lambda key: store.put(key, COMPLETION)),
        "batched_writes": _rate(
            pages, entries, lambda page: store.put_many((key, COMPLETION) for key in page)
        ),
        "reads": _rate(draw.sample(single, len(single)), len(single), store.get),
        "batched_reads": _rate(draw.sample(pages, len(pages)), entries, store.get_many),
    }


def _rate(items: Iterable[Any], count: int, call: Callable[[Any], Any]) -> float:
    _meeting[0].wait()
    began = time.perf_counter()
    for item in items:
        call(item)
    return count / (time.perf_counter() - began)
