"""Verification never holds up an event loop."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from stepwise.verify import equivalent, symbolic, verify, warm
from stepwise.verify.symbolic import threads
from tests.stalls import largest_gap


async def test_fifty_comparisons_leave_the_loop_free() -> None:
    for worker in symbolic._idle:
        worker.kill()  # the start of a worker is part of it
    stop = asyncio.Event()
    watch = asyncio.create_task(largest_gap(stop))
    began = time.perf_counter()
    verdicts = await asyncio.gather(
        *(
            verify(rf"\frac{{{i}}}{{7}}+\sqrt{{2}}", rf"\sqrt{{2}}+\frac{{{i + i % 2}}}{{7}}")
            for i in range(50)
        )
    )
    work = time.perf_counter() - began
    stop.set()
    assert verdicts == [i % 2 == 0 for i in range(50)]
    assert await watch < work / 3


@pytest.mark.parametrize(
    ("prediction", "gold"), [("42", "42.0"), ("1/2", "0.5"), ("B", "(B)"), ("5:00 pm", "17:00"), ("7", "8")]
)
async def test_plain_answers_are_decided_at_once(prediction: str, gold: str) -> None:
    busy = threads()
    before = busy._work_queue.qsize()
    assert await verify(prediction, gold) is equivalent(prediction, gold)
    assert busy._work_queue.qsize() == before


async def test_long_answers_are_compared_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    from stepwise.verify import awaitable

    names = []

    def compared(prediction: str, gold: str) -> bool:
        names.append(threading.current_thread().name)
        return False

    monkeypatch.setattr(awaitable, "equivalent", compared)
    assert not await verify("7" * 300, "8")
    assert names and names[0].startswith("verify")


def test_a_worker_is_started_ahead_of_time() -> None:
    for worker in symbolic._idle:
        worker.kill()
    symbolic._idle.clear()
    warm()
    threads().submit(lambda: None).result()
    with symbolic._starting:
        assert len(symbolic._idle) == 1


def test_a_comparison_that_ran_into_the_limit_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    question = (r"\int_0^1 x", r"\int_0^2 x")
    symbolic._remember(question)
    monkeypatch.setattr(symbolic, "_worker", lambda: pytest.fail("it was tried again"))
    assert not symbolic.symbolic(*question)


def test_not_all_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbolic, "REMEMBERED", 3)
    monkeypatch.setattr(symbolic, "_too_slow", {})
    for i in range(5):
        symbolic._remember((str(i), "x"))
    assert [prediction for prediction, _ in symbolic._too_slow] == ["2", "3", "4"]
