"""What a checkpoint on disk is, a Hugging Face folder or a GGUF file: where it lies, whether it is whole, how
large it is.

Everything here reads headers only, so that a wrong path or a truncated file is refused before any
model loads.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from functools import lru_cache
from pathlib import Path
from typing import Any

from stepwise.backends import gguf
from stepwise.errors import ConfigError


def resolve(path: str) -> Path:
    """The folder of a checkpoint, given a local folder or a hub id that is already downloaded; or the GGUF
    file.

    Raises:
        ConfigError: if nothing is there, a file is missing, or a weight file is truncated.
    """
    folder = locate(path)
    if folder.is_file():
        gguf.header(folder)
        return folder
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            raise ConfigError(f"model path {path!r}: {name} is missing from {folder}.")
        try:
            json.loads((folder / name).read_bytes())
        except ValueError as error:
            raise ConfigError(f"checkpoint file {folder / name} is damaged; fetch it again.") from error
    weights = _weights(folder)
    if not weights:
        raise ConfigError(f"model path {path!r}: no *.safetensors file in {folder}.")
    for file in weights:
        _header(file)
    return folder


def locate(path: str) -> Path:
    """The folder behind a path or the id of a downloaded hub model; or the GGUF file.

    Raises:
        ConfigError: if nothing is there, or several GGUF files.
    """
    file = gguf.find(path)
    if file is not None:
        return file
    folder = Path(path).expanduser()
    return folder if folder.is_dir() else _downloaded(path)


def _downloaded(path: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(path, local_files_only=True))
    except Exception as error:
        raise ConfigError(
            f"model path {path!r} is neither a folder nor a downloaded hub model; "
            f"check the spelling, or fetch it with `hf download {path}`."
        ) from error


def _weights(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def _header(file: Path) -> dict[str, Any]:
    """The tensor table of a safetensors file, after checking that all of its bytes are there."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        raw = stream.read(length) if length < size else b""
    try:
        table: dict[str, Any] = json.loads(raw)
    except ValueError as error:
        raise ConfigError(f"checkpoint file {file} is truncated or damaged; fetch it again.") from error
    table.pop("__metadata__", None)
    expected = 8 + length + max((entry["data_offsets"][1] for entry in table.values()), default=0)
    if size != expected:
        raise ConfigError(
            f"checkpoint file {file} is truncated: {size} bytes instead of {expected}; fetch it again."
        )
    return table


def context(path: str) -> int:
    """The longest sequence that the model was made for, from its configuration.

    Raises:
        ConfigError: if there is none that says so.
    """
    file = gguf.find(path)
    if file is not None:
        return gguf.header(file).context
    try:
        folder = locate(path)
    except ConfigError as error:
        raise ConfigError(
            f"model {path!r}: context is not known, since neither a folder nor a downloaded hub model of "
            "that name is here; mend the path, or give context in the pair."
        ) from error
    try:
        return int(json.loads((folder / "config.json").read_bytes())["max_position_embeddings"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"model {path!r}: context is not known; give it in the pair.") from error


def parameters(path: str) -> int:
    """Number of parameters stored in the checkpoint (tied weights count once)."""
    place = resolve(path)
    if place.is_file():
        return gguf.header(place).parameters
    tables = [_header(file) for file in _weights(place)]
    return sum(math.prod(entry["shape"]) for table in tables for entry in table.values())


@lru_cache
def revision(path: str) -> str:
    """Content hash of the weights, the configuration and the tokenizer."""
    place = resolve(path)
    digest = hashlib.sha256()
    parts = (place / "config.json", place / "tokenizer.json", *_weights(place))
    for file in (place,) if place.is_file() else parts:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


@lru_cache
def tokenizer_id(path: str) -> str:
    """Content hash of the tokenizer: backends that share it can exchange token ids.

    Raises:
        ConfigError: if there is none.
    """
    place = locate(path)
    if place.is_file():
        return hashlib.sha256(gguf.tokenizer(place).to_str().encode()).hexdigest()[:16]
    file = place / "tokenizer.json"
    if not file.is_file():
        raise ConfigError(f"tokenizer {path!r}: {file} is missing.")
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
