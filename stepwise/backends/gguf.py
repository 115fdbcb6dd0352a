"""What a GGUF file says of its model: its size, its longest sequence, its tokenizer.

Any backend may be given such a file in the place of a checkpoint's folder; `transformers` multiplies its
weights out as it loads them.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from stepwise.errors import ConfigError
from stepwise.extras import install

NO_WEIGHTS = {"rope_freqs.weight"}
EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"
ADDS_BOS = "tokenizer.ggml.add_bos_token"
LLAMA3 = ("llama3", "llama-v3", "llama-bpe")
"""Families that start a sequence with a token where the file does not say."""
TOKENIZERS = Path("~/.cache/stepwise/tokenizers")
SPECIAL = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
"""Tokens that chat templates name, there and in a file's fields."""
ROWS = 16
"""Rows that are compared to see whether the output layer is the embedding."""


@dataclass(frozen=True)
class Header:
    """What is known of a model before it is loaded.

    Attributes:
        architecture: its family, as llama.cpp calls it.
        context: its longest sequence in tokens.
        parameters: of the model; an output layer that is a copy of the embedding counts once.
        ends: tokens that end an answer.
        bos: the token that starts a sequence; None where none does.
        chat_template: in Jinja; "" where there is none.
        special: ids of tokens that a chat template may name, by the name there.
    """

    architecture: str
    context: int
    parameters: int
    ends: frozenset[int]
    bos: int | None
    chat_template: str
    special: Mapping[str, int]


def find(path: str) -> Path | None:
    """The GGUF file that a path names, itself or the only one in a folder; None if it names something else.

    Raises:
        ConfigError: if it could be one of several.
    """
    place = Path(path).expanduser()
    if place.suffix == ".gguf" and place.is_file():
        return place
    if not place.is_dir() or (place / "config.json").is_file():
        return None
    files = sorted(place.glob("*.gguf"))
    if len(files) > 1:
        names = ", ".join(file.name for file in files[:5])
        raise ConfigError(f"model path {path!r} holds several GGUF files; name one of {names}.")
    return files[0] if files else None


def reader(file: Path) -> Any:
    """The library's reader of a file.

    Raises:
        ConfigError: if the library is missing, or the file is damaged.
    """
    try:
        from gguf import GGUFReader
    except ImportError as error:
        raise ConfigError(f"reading GGUF needs the extra 'weights': {install('weights')}.") from error
    try:
        return GGUFReader(file)
    except (ValueError, IndexError, KeyError, OSError) as error:
        raise ConfigError(f"{file} is no GGUF file, or is damaged: {error}.") from error


@lru_cache
def header(file: Path) -> Header:
    """What a file says of its model.

    Raises:
        ConfigError: if it is no whole GGUF file of a language model.
    """
    read = reader(file)
    fields = {name: field.contents() for name, field in read.fields.items() if _is_value(field)}
    architecture = str(fields.get("general.architecture"))
    if int(fields.get("split.count", 1)) > 1:
        raise ConfigError(f"{file} is a part of a model; join its parts with llama-gguf-split --merge.")
    if f"{architecture}.context_length" not in fields or not read.tensors:
        raise ConfigError(f"{file} is not a language model's GGUF file.")
    begins = fields.get("tokenizer.ggml.model") == "llama" or fields.get("tokenizer.ggml.pre") in LLAMA3
    return Header(
        architecture=architecture,
        context=int(fields[f"{architecture}.context_length"]),
        parameters=_parameters(read.tensors),
        ends=frozenset(
            int(fields[name])
            for name in ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id")
            if name in fields
        ),
        bos=fields.get("tokenizer.ggml.bos_token_id") if fields.get(ADDS_BOS, begins) else None,
        chat_template=str(fields.get("tokenizer.chat_template", "")),
        special={
            name: int(fields[field])
            for name, part in SPECIAL.items()
            if (field := f"tokenizer.ggml.{part}_token_id") in fields
        },
    )


@lru_cache
def tokenizer(file: Path) -> Tokenizer:
    """A file's tokenizer. Building one takes up to a minute, so it is kept in `TOKENIZERS`.

    Raises:
        ConfigError: if it is of a kind that is not known.
    """
    stat = file.stat()
    key = f"{file.resolve()} {stat.st_size} {stat.st_mtime_ns} {version('transformers')} {version('gguf')}"
    kept = TOKENIZERS.expanduser() / f"{hashlib.blake2b(key.encode(), digest_size=12).hexdigest()}.json"
    if kept.is_file():
        return Tokenizer.from_file(str(kept))
    made = _tokenizer(file)
    with suppress(OSError):  # a home that cannot be written to makes it slow, not wrong
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(f".{os.getpid()}")
        made.save(str(part))
        part.replace(kept)
    return made


def _tokenizer(file: Path) -> Tokenizer:
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    bos = header(file).bos
    try:
        made: Tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).backend_tokenizer
    except (ValueError, KeyError, OSError, NotImplementedError) as error:
        raise ConfigError(f"the tokenizer of {file} could not be loaded: {error}.") from error
    plain = made.encode("a", add_special_tokens=False).ids
    if made.encode("a").ids != ([] if bos is None else [bos]) + plain:
        names = [] if bos is None else [made.id_to_token(bos)]
        made.post_processor = TemplateProcessing(
            single=[*names, "$A"], special_tokens=[(name, bos) for name in names]
        )
    return made


def _is_value(field: Any) -> bool:
    """Not an array: a vocabulary takes long to read."""
    return bool(field.types) and field.types[0].name != "ARRAY"


def _parameters(tensors: Sequence[Any]) -> int:
    by_name = {str(tensor.name): tensor for tensor in tensors if tensor.name not in NO_WEIGHTS}
    if OUTPUT in by_name and _same(by_name[OUTPUT], by_name[EMBEDDING]):
        del by_name[OUTPUT]
    return sum(math.prod(map(int, tensor.shape)) for tensor in by_name.values())


def _same(output: Any, embedding: Any) -> bool:
    """Whether an output layer is the embedding, quantised another time: equal up to the rounding."""
    from gguf import dequantize

    if tuple(output.shape) != tuple(embedding.shape):
        return False
    rows = np.linspace(0, len(output.data) - 1, ROWS).astype(int)
    a, b = (dequantize(tensor.data[rows], tensor.tensor_type) for tensor in (output, embedding))
    return bool(np.linalg.norm(a - b) < 0.5 * np.linalg.norm(a))
