"""Hugging Face models in this process, on CPU or GPU, without a server."""

from __future__ import annotations

from stepwise.backends.cores import cores
from stepwise.backends.options import BackendOptions, ModelSpec
from stepwise.engine.backend import Backend


class Options(BackendOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of `stepwise.backends.transformers.backend.TransformersBackend`, which explains them."""

    dtype: str = "float32"
    device: str | None = None
    max_batch: int = 64
    cache_mib: int = 1024
    threads: int | None = None

    def open(self, model: ModelSpec) -> Backend:
        from stepwise.backends.transformers.backend import TransformersBackend

        return TransformersBackend(
            model.path, dtype=self.dtype, device=self.device, max_batch=self.max_batch,
            cache_mib=self.cache_mib, threads=self.threads or max(1, cores() // model.share),
        )  # fmt: skip
