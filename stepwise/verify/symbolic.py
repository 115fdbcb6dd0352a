"""Comparison of expressions in worker processes that nothing can hang.

``9^{9^{9^9}}`` can keep a computer algebra system busy for hours: a worker has the operating system end it
after `TIME_LIMIT_S` of the processor's time, whatever code is running. Workers are programs of their own (no
fork, no ``__main__`` guard), so that they serve any thread, and are replaced when they die.
`stepwise.verify.worker` is what runs in them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path

from stepwise.errors import VerificationError

TIME_LIMIT_S = 5
"""Seconds of the processor's time that a comparison may take; then the answer counts as wrong."""
CLOCK_LIMIT_S = 60
"""The same by the clock. It is long, because what is right must not depend on what else the machine does."""
MEMORY_LIMIT = 4 << 30
"""Bytes of address space of a worker (Linux)."""
TIMED_OUT = (-signal.SIGPROF, -signal.SIGALRM)
"""How a worker ends that has taken too long, by the processor's time or by the clock."""
WORKERS = min(4, os.cpu_count() or 1)
"""Comparisons that run side by side."""

REMEMBERED = 10_000
"""Comparisons that ran into the time limit and are not tried again."""

_slots = threading.BoundedSemaphore(WORKERS)
_starting = threading.Lock()
_idle: list[subprocess.Popen[str]] = []
_too_slow: dict[tuple[str, str], None] = {}


def symbolic(prediction: str, gold: str) -> bool:
    """What a worker says of two LaTeX expressions; False when it dies of the question.

    Raises:
        VerificationError: if no worker can be started (math-verify is not installed).
    """
    question = (prediction, gold)
    if question in _too_slow:
        return False
    with _slots:
        while True:
            worker, new = _worker()
            verdict = _ask(worker, json.dumps(question))
            if verdict is not None:
                _idle.append(worker)
                return verdict
            _stop(worker)
            if worker.returncode in TIMED_OUT:
                _remember(question)
                return False
            if new:  # an idle one may have been killed before; this one has died of the question
                return False


def _remember(question: tuple[str, str]) -> None:
    _too_slow[question] = None
    if len(_too_slow) > REMEMBERED:
        with suppress(KeyError, RuntimeError):  # another thread did
            del _too_slow[next(iter(_too_slow))]


@cache
def threads() -> ThreadPoolExecutor:
    """Where comparisons wait for a worker, so that no event loop has to."""
    return ThreadPoolExecutor(WORKERS, thread_name_prefix="verify")


def warm() -> None:
    """Start a worker in the background, so that the first comparison need not wait for it."""
    threads().submit(_warmed)


def _warmed() -> None:
    with _starting:
        if not _idle:
            _idle.append(_started())


def _worker() -> tuple[subprocess.Popen[str], bool]:
    """An idle worker that is still alive, or a new one, and whether it is new."""
    if (worker := _alive()) is not None:
        return worker, False
    with _starting:  # one at a time: by now another may have become idle
        worker = _alive()
        return (worker, False) if worker is not None else (_started(), True)


def _alive() -> subprocess.Popen[str] | None:
    with suppress(IndexError):
        while True:
            worker = _idle.pop()
            if worker.poll() is None:
                return worker
            _stop(worker)
    return None


def _started() -> subprocess.Popen[str]:
    program = [sys.executable, "-P", str(Path(__file__).with_name("worker.py"))]
    worker = subprocess.Popen(
        [*program, str(TIME_LIMIT_S), str(CLOCK_LIMIT_S), str(MEMORY_LIMIT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
        start_new_session=True,
        text=True,
    )
    if _ask(worker, json.dumps(["x = 1", "1"])) is None:
        _stop(worker)
        raise VerificationError(
            "the answer checker could not be started; see what `python -c 'import math_verify'` says."
        )
    return worker


def _ask(worker: subprocess.Popen[str], question: str) -> bool | None:
    if worker.stdin is None or worker.stdout is None:
        return None
    with suppress(OSError):
        worker.stdin.write(question + "\n")
        worker.stdin.flush()
    answer = worker.stdout.readline()
    return bool(json.loads(answer)) if answer else None


def _stop(worker: subprocess.Popen[str]) -> None:
    worker.kill()
    with suppress(OSError):
        worker.communicate()


def _forget_the_parents() -> None:
    """After a fork, workers and threads belong to the parent."""
    global _slots, _starting
    _slots, _starting = threading.BoundedSemaphore(WORKERS), threading.Lock()
    _idle.clear()
    threads.cache_clear()


os.register_at_fork(after_in_child=_forget_the_parents)
