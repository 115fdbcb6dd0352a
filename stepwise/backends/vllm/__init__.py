"""vLLM in this process, on GPUs or on CPUs."""

from __future__ import annotations

from typing import ClassVar

from stepwise.backends.cores import cores
from stepwise.backends.options import BackendOptions, ModelSpec
from stepwise.engine.backend import Backend


class Options(BackendOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `stepwise.backends.vllm.backend.VllmBackend`, which explains them."""

    looks_ahead: ClassVar[bool] = True

    dtype: str = "float32"
    context: int | None = None
    memory_gib: float = 1.0
    quantization: str | None = None
    tensor_parallel: int = 1
    gpu_memory: float | None = None
    max_concurrency: int = 128
    threads: int | None = None

    def open(self, model: ModelSpec) -> Backend:
        from stepwise.backends.vllm.backend import VllmBackend

        return VllmBackend(
            model.path, dtype=self.dtype, context=self.context, memory_gib=self.memory_gib,
            quantization=self.quantization, tensor_parallel=self.tensor_parallel,
            gpu_memory=self.gpu_memory, max_concurrency=self.max_concurrency,
            threads=self.threads or max(1, (cores() - 1) // model.share),
        )  # fmt: skip
