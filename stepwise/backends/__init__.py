"""Backends run models. Each is imported when it is first asked for, since most users need one."""

from __future__ import annotations

from stepwise.backends.cores import cores
from stepwise.engine.backend import Backend, Completion, Sampling

BACKENDS = ("transformers", "vllm")
__all__ = ["BACKENDS", "Backend", "Completion", "Sampling", "open_backend"]


def open_backend(kind: str, path: str, *, share: int = 1) -> Backend:
    """Load the checkpoint at ``path`` with one of `BACKENDS`; ``share`` models use this machine."""
    if kind == "vllm":
        from stepwise.backends.vllm.backend import VllmBackend

        return VllmBackend(path, threads=max(1, (cores() - 1) // share))
    from stepwise.backends.transformers.backend import TransformersBackend

    return TransformersBackend(path, threads=max(1, cores() // share))
