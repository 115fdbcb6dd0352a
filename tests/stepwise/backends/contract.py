"""What every backend keeps, whatever runs behind it. A backend's test module fills `Subject` in and runs the
functions here as its own tests (``from tests.stepwise.backends.contract import *``)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from stepwise.engine.backend import Backend, Completion, Generation, Sampling, StreamingBackend, reads
from stepwise.errors import ContextOverflow
from stepwise.types import Usage

__all__ = [
    "test_a_broken_connection_changes_nothing_but_the_account",
    "test_a_cancelled_call_is_accounted_once_and_leaves_the_backend_usable",
    "test_a_prefix_beyond_the_context_is_refused",
    "test_a_prefix_that_was_computed_is_cached",
    "test_a_stream_can_be_left_and_gone_on_from",
    "test_a_stream_has_the_tokens_of_a_whole_call",
    "test_reading_a_step_thinks_of_it_what_writing_it_did",
    "test_steps_are_the_uninterrupted_generation",
    "test_what_is_charged_is_what_was_counted",
    "test_why_a_generation_stops",
]

WHOLE = 200
"""Tokens that hold a whole solution."""


@dataclass(frozen=True)
class Subject:
    """A backend under test.

    Attributes:
        prompt: a question whose greedy solution has several steps, and ends within `WHOLE` tokens.
        reference: that solution, where something else than the backend knows it.
        counters: prompt and generated tokens that the server has counted so far; None where nothing else
            than the backend counts.
        cut: lets the connection to the server break in the middle of the next answer; None where there is
            none. The backend retries.
    """

    backend: Backend
    prompt: str
    separator: str = "\n"
    reference: str | None = None
    counters: Callable[[], tuple[int, int]] | None = None
    cut: Callable[[], None] | None = None

    async def write(self, prefix: tuple[int, ...], **sampling: object) -> Completion:
        return await self.backend.generate(prefix, Sampling(**sampling))  # type: ignore[arg-type]

    async def steps(self) -> list[Completion]:
        prefix, steps = self.backend.encode(self.prompt), list[Completion]()
        while not steps or steps[-1].finish == "stop":
            steps.append(await self.write(prefix, max_tokens=WHOLE, stop=(self.separator,)))
            prefix += steps[-1].token_ids
        return steps


async def test_steps_are_the_uninterrupted_generation(subject: Subject) -> None:
    whole = await subject.write(subject.backend.encode(subject.prompt), max_tokens=WHOLE)
    steps = await subject.steps()
    assert len(steps) > 2 and whole.finish == "end"
    assert tuple(i for step in steps for i in step.token_ids) == whole.token_ids
    assert "".join(step.text for step in steps) == whole.text
    assert subject.reference in (None, whole.text)


async def test_what_is_charged_is_what_was_counted(subject: Subject) -> None:
    before = subject.counters() if subject.counters else (0, 0)
    steps = await subject.steps()
    total = sum((step.usage for step in steps), Usage())
    ids = sum(len(step.token_ids) for step in steps)
    assert total.completion == ids + (steps[-1].finish == "end") and not total.estimated
    assert all(0 <= step.usage.cached < step.usage.prompt for step in steps)
    if subject.counters:
        prompt, written = (b - a for a, b in zip(before, subject.counters(), strict=True))
        assert (total.prompt, total.completion + total.discarded) == (prompt, written)


async def test_why_a_generation_stops(subject: Subject) -> None:
    prefix = subject.backend.encode(subject.prompt)
    whole = await subject.write(prefix, max_tokens=WHOLE)
    step = await subject.write(prefix, max_tokens=WHOLE, stop=(subject.separator,))
    cut = await subject.write(prefix, max_tokens=2)
    assert (whole.finish, step.finish, cut.finish) == ("end", "stop", "length")
    assert step.text.endswith(subject.separator) and whole.text.startswith(step.text)
    assert cut.token_ids == whole.token_ids[:2] and cut.usage.completion == 2
    for completion in (whole, step, cut):
        assert completion.signals.known and completion.signals.length == completion.usage.completion


async def test_a_prefix_that_was_computed_is_cached(subject: Subject) -> None:
    prefix = subject.backend.encode(subject.prompt)
    step = await subject.write(prefix, max_tokens=WHOLE)
    again = await subject.write(prefix + step.token_ids[:-1], max_tokens=1)
    assert 0 < again.usage.cached < again.usage.prompt == len(prefix) + len(step.token_ids) - 1


async def test_a_stream_has_the_tokens_of_a_whole_call(subject: Subject) -> None:
    prefix = subject.backend.encode(subject.prompt)
    whole = await subject.write(prefix, max_tokens=WHOLE)
    ids, generation = await _streamed(subject, prefix)
    assert ids == whole.token_ids
    assert generation.prompt.prompt == len(prefix) and generation.unread == 0


async def test_a_stream_can_be_left_and_gone_on_from(subject: Subject) -> None:
    prefix = subject.backend.encode(subject.prompt)
    whole = await subject.write(prefix, max_tokens=WHOLE)
    generation = _streaming(subject).begin(prefix, Sampling(WHOLE))
    chunk = await generation.read()
    await generation.stop()
    assert generation.prompt.prompt == len(prefix)
    assert 1 <= len(chunk.token_ids) + generation.unread <= whole.usage.completion
    rest = await subject.write(prefix + chunk.token_ids, max_tokens=WHOLE)
    assert chunk.token_ids + rest.token_ids == whole.token_ids


async def test_a_broken_connection_changes_nothing_but_the_account(subject: Subject) -> None:
    if subject.cut is None:
        pytest.skip("there is no connection")
    prefix, lost = subject.backend.encode(subject.prompt), list[Usage]()
    whole = await subject.write(prefix, max_tokens=WHOLE)
    subject.cut()
    again = await subject.backend.generate(prefix, Sampling(WHOLE), lost.append)
    assert again.token_ids == whole.token_ids and [usage.prompt for usage in lost] == [len(prefix)]
    subject.cut()
    ids, generation = await _streamed(subject, prefix)
    assert ids == whole.token_ids and generation.prompt.prompt >= 2 * len(prefix)


def _streaming(subject: Subject) -> StreamingBackend:
    if not isinstance(subject.backend, StreamingBackend):
        pytest.skip("it cannot be read while it writes")
    return subject.backend


async def _streamed(subject: Subject, prefix: tuple[int, ...]) -> tuple[tuple[int, ...], Generation]:
    """A stream that is read to the answer's end: its ids, and the generation."""
    generation = _streaming(subject).begin(prefix, Sampling(WHOLE))
    ids: tuple[int, ...] = ()
    finish = None
    while finish is None:
        chunk = await generation.read()
        assert len(chunk.token_ids) == len(chunk.logprobs) == len(chunk.top)
        ids += chunk.token_ids
        finish = chunk.finish
    await generation.stop()
    await generation.stop()
    assert finish == "end"
    return ids[:-1], generation


async def test_a_cancelled_call_is_accounted_once_and_leaves_the_backend_usable(subject: Subject) -> None:
    prefix, lost = subject.backend.encode(subject.prompt), list[Usage]()
    call = asyncio.create_task(subject.backend.generate(prefix, Sampling(WHOLE), lost.append))
    await asyncio.sleep(0)  # lets it begin
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert len(lost) <= 1
    assert all(u.prompt in (0, len(prefix)) and u.completion + u.discarded <= WHOLE for u in lost)
    after = await subject.write(prefix, max_tokens=2)
    assert after.usage.completion == 2


async def test_a_prefix_beyond_the_context_is_refused(subject: Subject) -> None:
    prefix = subject.backend.encode(subject.prompt)
    long = prefix * (subject.backend.context // len(prefix) + 1)
    with pytest.raises(ContextOverflow):
        await subject.write(long, max_tokens=1)


async def test_reading_a_step_thinks_of_it_what_writing_it_did(subject: Subject) -> None:
    if not reads(subject.backend):
        pytest.skip("it does not tell how likely a text is")
    prefix = subject.backend.encode(subject.prompt)
    first, *_ = await subject.steps()
    wrote, ids = first.signals, len(first.token_ids)
    read = await subject.write(prefix + first.token_ids, max_tokens=1, read=ids)
    again = await subject.write(prefix + first.token_ids, max_tokens=1, read=ids)
    for call in (read, again):
        assert not call.token_ids and not call.text and call.usage.completion == 0
        assert call.usage.prompt == len(prefix) + ids and call.signals.length == ids
        for name in ("mean_logprob", "min_logprob", "first_entropy", "margin"):
            assert getattr(call.signals, name) == pytest.approx(getattr(wrote, name), abs=2e-3)
