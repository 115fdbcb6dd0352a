"""Verification for code that runs in an event loop."""

from __future__ import annotations

import asyncio

from stepwise.types import Trace
from stepwise.verify.compare import equivalent, rules_suffice


async def verify(prediction: str, gold: str) -> bool:
    """`equivalent` without blocking the event loop: what may need a worker process waits in a thread.

    Raises:
        VerificationError: if no worker can be started (math-verify is not installed).
    """
    if rules_suffice(prediction) and rules_suffice(gold):
        return equivalent(prediction, gold)
    return await asyncio.to_thread(equivalent, prediction, gold)


async def correct(trace: Trace) -> bool:
    """Whether the model closed its answer and the answer is the gold one."""
    return trace.stop == "answered" and await verify(trace.answer, trace.problem.answer)


def is_correct(trace: Trace) -> bool:
    """`correct` for synchronous code."""
    return trace.stop == "answered" and equivalent(trace.answer, trace.problem.answer)
