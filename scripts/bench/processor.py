"""A clock that other work on the machine does not move: processor seconds of some processes.

Of a server with one thread that answers one call at a time, they are about the seconds that it would take on
a quiet machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def processor_seconds(processes: Iterable[int]) -> float:
    """Seconds that these processes have computed, all threads together (Linux: ``/proc/PID/task``)."""
    return (
        sum(
            int(thread.read_text().split()[0])
            for process in processes
            for thread in Path(f"/proc/{process}/task").glob("*/schedstat")
        )
        / 1e9
    )
