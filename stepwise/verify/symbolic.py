"""Comparison of expressions by `math-verify`, in workers that nothing can hang.

``9^{9^{9^9}}`` can keep a computer algebra system busy for hours: a worker has the operating system end it
after `TIME_LIMIT_S`, whatever code is running. Workers are programs of their own (no fork, no ``__main__``
guard), so that they serve any thread, and are replaced when they die.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from importlib import import_module
from typing import Any

from stepwise.errors import VerificationError

TIME_LIMIT_S = 5
"""Seconds that a comparison may take; then the answer counts as wrong."""
MEMORY_LIMIT = 4 << 30
"""Bytes of address space of a worker (Linux)."""
WORKERS = min(4, os.cpu_count() or 1)
"""Comparisons that run side by side."""

_slots = threading.BoundedSemaphore(WORKERS)
_idle: list[subprocess.Popen[str]] = []
os.register_at_fork(after_in_child=_idle.clear)


def symbolic(prediction: str, gold: str) -> bool:
    """What a worker says of two LaTeX expressions; False when it dies of the question.

    Raises:
        VerificationError: if no worker can be started (math-verify is not installed).
    """
    with _slots:
        for _ in range(2):  # a worker may have been killed while it was idle
            worker = _worker()
            verdict = _ask(worker, json.dumps([prediction, gold]))
            if verdict is not None:
                _idle.append(worker)
                return verdict
            _stop(worker)
            if worker.returncode == -signal.SIGALRM:
                break
    return False


def _worker() -> subprocess.Popen[str]:
    """An idle worker that is still alive, or a new one."""
    with suppress(IndexError):
        while True:
            worker = _idle.pop()
            if worker.poll() is None:
                return worker
            _stop(worker)
    worker = subprocess.Popen(
        [sys.executable, "-c", "from stepwise.verify.symbolic import serve; serve()"],
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


def _spelt(answer: str) -> str:
    """As `math-verify` knows it."""
    return answer.replace("**", "^").replace(r"\varnothing", r"\emptyset")


def _no_interval(parsed: list[Any], formula: str) -> bool:
    """Whether this is an interval with its ends the wrong way round: sympy takes it for the empty set, and
    so any two of them for equal."""
    empty = bool(parsed) and parsed[0] == import_module("sympy").EmptySet
    return empty and not any(sign in formula for sign in (r"\emptyset", r"\{\}"))


def serve() -> None:
    """The program of a worker: pairs of answers in, verdicts out, one line of JSON each."""
    replies, sys.stdout = sys.stdout, sys.stderr
    logging.disable()
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    library = import_module("math_verify")
    options: dict[str, object] = {"fallback_mode": "no_fallback", "parsing_timeout": None}
    options["extraction_config"] = [library.LatexExtractionConfig()]
    for line in sys.stdin:
        signal.alarm(TIME_LIMIT_S)
        verdict = False
        with suppress(Exception):
            latex = [f"${_spelt(answer)}$" for answer in json.loads(line)]
            prediction, gold = (library.parse(formula, **options) for formula in latex)
            verdict = not any(map(_no_interval, (prediction, gold), latex)) and bool(
                library.verify(gold, prediction, timeout_seconds=None)
            )
        signal.alarm(0)
        print(json.dumps(verdict), file=replies, flush=True)
