"""Verification for code that runs in an event loop."""

from __future__ import annotations

import asyncio

from stepwise.types import Trace
from stepwise.verify.compare import by_rules, equivalent
from stepwise.verify.symbolic import symbolic, threads

MAX_AT_ONCE = 200
"""Characters of an answer that is compared without leaving the event loop, where rules decide."""


async def verify(prediction: str, gold: str) -> bool:
    """`equivalent` without blocking the event loop: what may need a worker process waits in a thread.

    Raises:
        VerificationError: if no worker can be started (math-verify is not installed).
    """
    loop = asyncio.get_running_loop()
    if max(len(prediction), len(gold)) > MAX_AT_ONCE:
        return await loop.run_in_executor(threads(), equivalent, prediction, gold)
    verdict = by_rules(prediction, gold)
    if isinstance(verdict, tuple):
        return await loop.run_in_executor(threads(), symbolic, *verdict)
    return verdict


async def correct(trace: Trace) -> bool:
    """Whether the model closed its answer and the answer is the gold one."""
    return trace.stop == "answered" and await verify(trace.answer, trace.problem.answer)


def is_correct(trace: Trace) -> bool:
    """`correct` for synchronous code."""
    return trace.stop == "answered" and equivalent(trace.answer, trace.problem.answer)
