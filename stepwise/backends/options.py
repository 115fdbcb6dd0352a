"""What a model's ``backend:`` may say, and how it becomes a running backend.

    backend: {name: vllm, dtype: bfloat16, memory_gib: 8}

``name`` is an entry point of the group `GROUP`, so that an installed distribution adds a backend of its own;
the rest are that backend's options. A file can only name what is installed: it never imports a path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any, ClassVar

import msgspec

from stepwise.engine.backend import Backend
from stepwise.errors import ConfigError

GROUP = "stepwise.backends"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The model that a backend is asked to run.

    Attributes:
        name: in traces and errors.
        path: folder of a checkpoint, or the id of a hub model; "" behind a server that needs none.
        parameters: as the pair gives them; None where a checkpoint tells.
        identity: of the weights; part of every store key.
        share: how many models use this machine.
    """

    name: str
    path: str
    parameters: int | None
    identity: str
    share: int = 1


class BackendOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the options of a backend.

    Attributes:
        remote: whether the model runs on a server, and needs no checkpoint here.
        looks_ahead: whether models go on past the end of a step by default, where nothing is stored.
    """

    remote: ClassVar[bool] = False
    looks_ahead: ClassVar[bool] = False

    def open(self, model: ModelSpec) -> Backend:
        """Load the model, or connect to it.

        Raises:
            ConfigError: if an option cannot work with the model.
        """
        raise NotImplementedError


def known_backends() -> tuple[str, ...]:
    """Names of the installed backends."""
    return tuple(sorted(_installed()))


@lru_cache
def _installed() -> Mapping[str, Any]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def kind_of(name: str) -> type[BackendOptions]:
    """The options of a backend by its name.

    Raises:
        ConfigError: if no backend of that name is installed, or it does not fit.
    """
    entry = _installed().get(name)
    if entry is None:
        raise ConfigError(f"backend: name must be one of {', '.join(known_backends())}, not {name!r}.")
    kind = entry.load()
    if not (isinstance(kind, type) and issubclass(kind, BackendOptions)):
        raise ConfigError(f"backend: {entry.value} (for {name!r}) must be a class of BackendOptions.")
    return kind
