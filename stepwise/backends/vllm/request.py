"""One request to a running vLLM engine: whole, or read while it is generated."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from typing import Any
from uuid import uuid4

from stepwise.backends.vllm.record import TokenRecord
from stepwise.engine import signals
from stepwise.engine.backend import Chunk, Completion, Lost, Sampling, only_read
from stepwise.errors import BackendError
from stepwise.types import Finish, Usage


async def read(engine: Any, prefix: list[int], sampling: Sampling, room: int, lost: Lost) -> Completion:
    """Let the model read the end of a prefix. Tokens that were cached have no log-probabilities: if there are
    any of them among those that are asked for, the model reads the whole prefix again."""
    record, _ = await request(engine, prefix, sampling, room, lost)
    if record.cached >= len(prefix) - sampling.read:
        lost(_spent(prefix, record))
        record, _ = await request(engine, prefix, sampling, room, lost, anew=True)
    return only_read(_spent(prefix, record), signals.measure(*record.reading(sampling.read)))


async def request(
    engine: Any, prefix: list[int], sampling: Sampling, room: int, lost: Lost, *, anew: bool = False
) -> Any:
    """One request to its end: the queue with its record, and vLLM's output; cancelling it frees its place.
    ``anew`` leaves the prefix cache aside."""
    name = uuid4().hex
    queue = None
    try:
        parameters = _reading(anew) if sampling.read else _parameters(sampling, room)
        queue = await engine.add_request(name, {"prompt_token_ids": prefix}, parameters)
        return queue.record, await queue.get()
    except BaseException as error:
        try:
            if isinstance(error, asyncio.CancelledError):
                await engine.abort(name)
        finally:
            if queue is not None:
                lost(_spent(prefix, queue.record))
        raise


def _spent(prefix: list[int], record: TokenRecord) -> Usage:
    """What vLLM is known to have computed; nothing before it has told of a first token."""
    if record.cached is None:
        return Usage()
    return Usage(len(prefix), record.cached, len(record.token_ids))


def _parameters(sampling: Sampling, room: int) -> Any:
    """vLLM's sampling parameters. Log-probabilities are the model's own, before temperature and top-p.
    Without stop strings nobody needs the text that vLLM would decode."""
    vllm = import_module("vllm.sampling_params")
    return vllm.SamplingParams(
        max_tokens=min(sampling.max_tokens, room),
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=sampling.seed if sampling.temperature > 0.0 else None,
        stop=list(sampling.stop),
        include_stop_str_in_output=True,
        detokenize=bool(sampling.stop),
        logprobs=signals.TOP,
        output_kind=vllm.RequestOutputKind.FINAL_ONLY,
    )


def _reading(anew: bool) -> Any:
    """The same for a prompt that is only read. vLLM must write a token, and leaves its cache aside unless it
    is told not to."""
    vllm = import_module("vllm.sampling_params")
    return vllm.SamplingParams(
        max_tokens=1,
        temperature=0.0,
        detokenize=False,
        prompt_logprobs=signals.TOP,
        skip_reading_prefix_cache=anew,
        output_kind=vllm.RequestOutputKind.FINAL_ONLY,
    )


class VllmGeneration:
    """A request whose tokens are read as they come. What piles up between two reads comes as one chunk.

    Args:
        piece: the text of a token.
    """

    def __init__(
        self, engine: Any, prefix: list[int], sampling: Sampling, room: int, piece: Callable[[int], str]
    ) -> None:
        self._engine = engine
        self._prompt = {"prompt_token_ids": prefix}
        self._parameters = _parameters(sampling, room)
        self._piece = piece
        self._name = uuid4().hex
        self._queue: Any = None
        self._broken: BackendError | None = None

    async def read(self, mark: str = "", limit: int = 1) -> Chunk:
        try:
            if self._queue is None:
                self._queue = await self._engine.add_request(self._name, self._prompt, self._parameters)
            if self._broken is not None:
                raise self._broken
            await self._enough(mark, limit)
            last = self._queue.get_nowait()
        except Exception as error:
            raise failure(error) from error
        record = self._queue.record
        ids, chosen, top = record.take()
        return Chunk(ids, chosen, top, finish_of(last.outputs[0]) if last else None)

    @property
    def prompt(self) -> Usage:
        known = _spent(self._prompt["prompt_token_ids"], self._queue.record) if self._queue else Usage()
        return replace(known, completion=0)

    @property
    def unread(self) -> int:
        return len(self._queue.record.token_ids) if self._queue else 0

    async def stop(self) -> None:
        with suppress(Exception):  # where the engine is dead, so is the request
            await self._engine.abort(self._name)

    def fail(self, error: BackendError) -> None:
        """Let whoever reads know that nothing more will come."""
        self._broken = error
        if self._queue is not None:
            self._queue.put(error)

    async def _enough(self, mark: str, limit: int) -> None:
        """Wait until there is enough to read, the request has ended, or the engine has died."""
        queue, piece = self._queue, self._piece
        there = queue.record.expect(lambda token: mark in piece(token), limit)
        if not there and queue.output is None:
            queue.ready.clear()
            await queue.ready.wait()


def outcome(call: asyncio.Task[Completion]) -> Completion:
    """What a finished call gave, or its failure."""
    if call.cancelled():
        raise BackendError("the backend was closed.")
    error = call.exception()
    if isinstance(error, BackendError):
        raise error
    if isinstance(error, Exception):
        raise failure(error) from error
    return call.result()


def failure(error: Exception) -> BackendError:
    """A failure in our terms: retryable when the engine is still alive."""
    if isinstance(error, BackendError):
        return error
    alive = isinstance(error, import_module("vllm.v1.engine.exceptions").EngineGenerateError)
    return BackendError(f"vLLM refused a request: {error.__cause__ or error}", retryable=alive)


def finish_of(written: Any) -> Finish:
    """Why vLLM stopped: a stop string is named, the end of the answer is a token or nothing."""
    if written.finish_reason == "length":
        return "length"
    if written.finish_reason != "stop":
        raise BackendError(f"vLLM broke off a request: {written.finish_reason}.", retryable=True)
    return "stop" if isinstance(written.stop_reason, str) else "end"
