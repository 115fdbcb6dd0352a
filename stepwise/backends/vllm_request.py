"""One request to a running vLLM engine: whole, or read while it is generated."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from importlib import import_module
from typing import Any
from uuid import uuid4

from stepwise import signals
from stepwise.backends.base import Chunk, Sampling
from stepwise.errors import BackendError
from stepwise.types import Finish, Usage


async def request(engine: Any, prefix: list[int], sampling: Sampling, room: int) -> Any:
    """One request; cancelling it frees its place in the engine."""
    name = uuid4().hex
    try:
        parameters = _parameters(sampling, room, "FINAL_ONLY")
        async for output in engine.generate({"prompt_token_ids": prefix}, parameters, name):
            if output.finished:
                return output
    except asyncio.CancelledError:
        await engine.abort(name)
        raise
    raise BackendError("vLLM ended a request without an answer.", retryable=True)


def _parameters(sampling: Sampling, room: int, kind: str) -> Any:
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
        flat_logprobs=True,
        output_kind=vllm.RequestOutputKind[kind],
    )


class VllmGeneration:
    """A request whose tokens are read as they come. What piles up between two reads comes as one chunk."""

    def __init__(self, engine: Any, prefix: list[int], sampling: Sampling, room: int) -> None:
        self.prompt = Usage(prompt=len(prefix))
        self._engine = engine
        self._prefix = prefix
        self._sampling = sampling
        self._room = room
        self._name = uuid4().hex
        self._outputs: Any = None

    async def read(self) -> Chunk:
        try:
            if self._outputs is None:
                parameters = _parameters(self._sampling, self._room, "DELTA")
                prompt = {"prompt_token_ids": self._prefix}
                self._outputs = await self._engine.add_request(self._name, prompt, parameters)
            output = self._outputs.get_nowait() or await self._outputs.get()
        except Exception as error:
            raise failure(error) from error
        written = output.outputs[0]
        self.prompt = replace(self.prompt, cached=output.num_cached_tokens or 0)
        finish = finish_of(written) if output.finished else None
        ids = tuple(written.token_ids)
        return Chunk(ids, *logprobs(written.logprobs, len(ids)), finish)

    async def stop(self) -> int:
        """The engine's last word on an aborted request carries the tokens that were not read."""
        outputs, self._outputs = self._outputs, None
        try:
            await self._engine.abort(self._name)
            last = outputs.get_nowait() if outputs else None
        except Exception:  # the engine is dead, and so is the request
            return 0
        return len(last.outputs[0].token_ids) if last else 0

    def fail(self, error: BackendError) -> None:
        """Let whoever reads know that nothing more will come."""
        if self._outputs is not None:
            self._outputs.put(error)


def outcome(call: asyncio.Task[Any]) -> Any:
    """The output of a finished call, or its failure."""
    if call.cancelled():
        raise BackendError("the backend was closed.")
    error = call.exception()
    if isinstance(error, Exception):
        raise failure(error) from error
    return call.result()


def failure(error: Exception) -> BackendError:
    """A failure in our terms: retryable when the engine is still alive."""
    if isinstance(error, BackendError):
        return error
    alive = isinstance(error, import_module("vllm.v1.engine.exceptions").EngineGenerateError)
    return BackendError(f"vLLM refused a request: {error.__cause__ or error}", retryable=alive)


def logprobs(flat: Any, tokens: int) -> tuple[list[float], list[list[float]]]:
    """Log-probabilities of the generated tokens, and of the likeliest ones in falling order.

    vLLM lists for each position first the token that was chosen and then the likeliest, among which the
    chosen one comes again, except where it has merged the outputs of several steps of the engine.
    """
    chosen, top = [], []
    for start, end in list(zip(flat.start_indices, flat.end_indices, strict=True))[:tokens]:
        found = dict(zip(flat.token_ids[start:end], flat.logprobs[start:end], strict=True))
        chosen.append(flat.logprobs[start])
        top.append(sorted(found.values(), reverse=True)[: signals.TOP])
    return chosen, top


def finish_of(written: Any) -> Finish:
    """Why vLLM stopped: a stop string is named, the end of the answer is a token or nothing."""
    if written.finish_reason == "length":
        return "length"
    if written.finish_reason != "stop":
        raise BackendError(f"vLLM broke off a request: {written.finish_reason}.", retryable=True)
    return "stop" if isinstance(written.stop_reason, str) else "end"
