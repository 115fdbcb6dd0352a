"""One model of a pool: what it is, how it is asked, what it costs, and which backend runs it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from stepwise.backends import checkpoint
from stepwise.backends.options import BackendOptions, ModelSpec, kind_of
from stepwise.engine.backend import Backend
from stepwise.engine.cost import Price
from stepwise.errors import ConfigError
from stepwise.models.reading import read

Choice = str | Mapping[str, Any]
"""A backend by name, or a mapping of its ``name`` and its options."""


class Model(msgspec.Struct, frozen=True, dict=True, forbid_unknown_fields=True):
    """One model of a pool.

    Attributes:
        name: in traces.
        path: folder of a checkpoint, the id of a hub model, or a GGUF file. Not needed behind a server, if ``parameters``
            and the backend's options say what else would be read from it.
        price: for cost in dollars.
        prompt: template with ``{question}``, where the pair's does not suit it.
        think_end: text that ends its thinking, such as ``</think>``.
        stop: a step that contains one of these strings ends its answer; ``\\boxed{}`` stands for a closed
            box, and a string that begins with a line end also counts at the step's beginning.
        parameters: number of parameters, where no checkpoint tells.
        revision: identifies the weights, where no checkpoint tells.
        backend: runs it: ``{name: vllm, dtype: bfloat16}``; by default the engine's.
    """

    name: str
    path: str = ""
    price: Price | None = None
    prompt: str = ""
    think_end: str = ""
    stop: tuple[str, ...] = ()
    parameters: int | None = None
    revision: str = ""
    backend: str | dict[str, Any] = ""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "stop", tuple(self.stop))
        for wrong, sentence in (
            (not self.name, "name must not be empty."),
            ("" in self.stop, "stop must not contain an empty string."),
            (
                self.parameters is not None and self.parameters < 1,
                f"parameters must be at least 1, not {self.parameters}.",
            ),
            (
                bool(self.prompt) and "{question}" not in self.prompt,
                f"prompt must contain {{question}}, which {self.prompt!r} does not.",
            ),
            (not self.remote and not self.path, "it needs a path, or a backend on a server."),
        ):
            if wrong:
                raise ConfigError(f"model {self.name!r}: {sentence}")

    @cached_property
    def options(self) -> BackendOptions | None:
        """Those of its own backend; None where the engine's default runs it.

        Raises:
            ConfigError: if there is no such backend or option.
        """
        return options_of(self.backend, f"model {self.name!r}") if self.backend else None

    @property
    def remote(self) -> bool:
        """Whether it runs on a server."""
        return self.options is not None and self.options.remote

    @property
    def _here(self) -> bool:
        """Whether its checkpoint can be looked at."""
        return bool(self.path) and (not self.remote or Path(self.path).exists())

    @property
    def identity(self) -> str:
        """Of the weights: a hash of the checkpoint where there is one, else what the pair says."""
        if self._here:
            return checkpoint.revision(self.path)
        return f"{getattr(self.options, 'served_name', '') or self.path} {self.revision}".strip()

    @property
    def size(self) -> int:
        """Number of parameters.

        Raises:
            ConfigError: if neither the pair nor a checkpoint tells.
        """
        if self.parameters is not None:
            return self.parameters
        if self._here:
            return checkpoint.parameters(self.path)
        raise ConfigError(f"model {self.name!r}: cost=flops needs parameters; add them to the pair.")

    def open(self, default: BackendOptions, share: int) -> Backend:
        """Load it, or connect to it.

        Args:
            default: options of the backend that runs models which name none.
            share: how many models use this machine.

        Raises:
            ConfigError: if an option cannot work with the model.
        """
        spec = ModelSpec(self.name, self.path, self.parameters, self.identity, share)
        return (self.options or default).open(spec)

    def with_options(self, **changes: Any) -> Model:
        """The same model with other options of its backend.

        Raises:
            ConfigError: if it names no backend, or the backend has no such option.
        """
        if not self.backend:
            raise ConfigError(f"model {self.name!r} names no backend whose options could be set.")
        given = {"name": self.backend} if isinstance(self.backend, str) else self.backend
        return msgspec.structs.replace(self, backend={**given, **changes})


def options_of(backend: Choice, where: str = "backend") -> BackendOptions:
    """The options that a pair's file or a command line gives.

    Raises:
        ConfigError: if there is no such backend or option, or an option is of another type.
    """
    given = {"name": backend} if isinstance(backend, str) else dict(backend)
    name = given.pop("name", None)
    if not isinstance(name, str):
        raise ConfigError(f"{where}: backend needs the name of a backend, not {name!r}.")
    return read(kind_of(name), given, f"{where}: backend {name}")
