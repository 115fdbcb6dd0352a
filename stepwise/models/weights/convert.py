"""A GGUF file as a Hugging Face folder: bf16 safetensors, written a few rows at a time.

Quantised weights are multiplied out: such a folder answers what the quantised model answers, not what the
original would. Only families whose tensors keep their layout (Qwen2), or whose query and key rows
are merely reordered (Llama), are known here.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from stepwise.backends import gguf
from stepwise.errors import ConfigError

ARCHITECTURES = {"qwen2": "Qwen2ForCausalLM", "llama": "LlamaForCausalLM"}
NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
UNUSED = {"rope_freqs"}
PIECE = 1 << 22
"""Values that are multiplied out at a time."""


@dataclass(frozen=True)
class Source:
    """One tensor of the folder, and the tensor of the GGUF file that it is made from.

    Attributes:
        heads: for rows that the file keeps in the order of interleaved rotary positions; 0 for others.
    """

    name: str
    tensor: Any
    shape: tuple[int, ...]
    heads: int = 0

    @property
    def bytes(self) -> int:
        return 2 * int(np.prod(self.shape))


def convert(file: Path, folder: Path, *, tied: bool) -> None:
    """Write ``config.json``, ``model.safetensors`` and the tokenizer of a GGUF file into ``folder``.

    Args:
        tied: whether the model's output layer is its embedding. Files often hold a copy of it, quantised more
            finely; the finer one is then taken for both, and the model has its true number of parameters.

    Raises:
        ConfigError: if the file is of a family that is not known, or a package is missing.
    """
    reader = gguf.reader(file)
    family = str(reader.fields["general.architecture"].contents())
    if family not in ARCHITECTURES:
        raise ConfigError(
            f"{file.name} is of the family {family!r}; only {', '.join(ARCHITECTURES)} can be converted."
        )
    folder.mkdir(parents=True, exist_ok=True)
    _write_tokenizer(file, folder)
    heads = {
        "attn_q": int(reader.fields[f"{family}.attention.head_count"].contents()),
        "attn_k": int(reader.fields[f"{family}.attention.head_count_kv"].contents()),
    }
    sources = list(_sources(reader.tensors, heads if family == "llama" else {}, tied))
    _write_weights(sources, folder / "model.safetensors")
    _write_config(file, folder, ARCHITECTURES[family], tied)


def _sources(tensors: Any, heads: Mapping[str, int], tied: bool) -> Iterator[Source]:
    by_name = {str(tensor.name): tensor for tensor in tensors}
    output = by_name.pop("output.weight", None) if tied else None
    if output is not None and output.n_bytes > by_name["token_embd.weight"].n_bytes:
        by_name["token_embd.weight"] = output
    for name, tensor in by_name.items():
        stem, _, kind = name.rpartition(".")
        if stem in UNUSED:
            continue
        block, _, part = stem.rpartition(".")
        if part not in NAMES:
            raise ConfigError(f"the tensor {name!r} is not one of a model that can be converted.")
        place = f"model.layers.{block.removeprefix('blk.')}." if block else ""
        shape = tuple(int(size) for size in reversed(tensor.shape))  # the file lists the fastest axis first
        yield Source(f"{place}{NAMES[part]}.{kind}", tensor, shape, heads.get(part, 0))


def _write_weights(sources: list[Source], path: Path) -> None:
    table, end = {}, 0
    for source in sources:
        table[source.name] = {
            "dtype": "BF16",
            "shape": source.shape,
            "data_offsets": (end, end := end + source.bytes),
        }
    header = json.dumps({"__metadata__": {"format": "pt"}, **table}).encode()
    header += b" " * (-len(header) % 8)
    part = path.with_suffix(".part")
    with part.open("wb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header)
        for source in sources:
            _write_tensor(source, stream)
    part.replace(path)


def _write_tensor(source: Source, stream: IO[bytes]) -> None:
    from gguf import dequantize

    tensor = source.tensor
    if source.heads:
        whole = dequantize(tensor.data, tensor.tensor_type)
        stream.write(bfloat16(_in_halves(whole, source.heads)).tobytes())
        return
    rows = max(1, PIECE // source.shape[-1]) if len(source.shape) > 1 else len(tensor.data)
    for start in range(0, len(tensor.data), rows):
        piece = dequantize(tensor.data[start : start + rows], tensor.tensor_type)
        stream.write(bfloat16(piece).tobytes())


def _in_halves(weights: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """Rows of each head from (pair, half), the order of llama.cpp's rotary positions, to (half, pair)."""
    shape = weights.shape
    return weights.reshape(heads, -1, 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def bfloat16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The upper halves of float32 values, rounded to nearest, ties to even; finite values only."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _write_tokenizer(file: Path, folder: Path) -> None:
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)


def _write_config(file: Path, folder: Path, architecture: str, tied: bool) -> None:
    """Last of all: a folder without it is not taken for a whole one."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name).to_dict()
    config.pop("quantization_config", None)
    # Where the file lay and who read it must not make it another model.
    config = {
        key: value for key, value in config.items() if not key.startswith(("_", "transformers_version"))
    }
    config |= {"architectures": [architecture], "dtype": "bfloat16", "tie_word_embeddings": tied}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
