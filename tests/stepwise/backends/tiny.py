"""Tiny random checkpoints of real architectures, with a token a character, and one of them as a GGUF file.

Random weights write no sentences. So a token of the model's own greedy text is declared to end answers, and one
that is frequent before it to separate steps.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3Config,
    Gemma3TextConfig,
    LlamaConfig,
    PretrainedConfig,
    Qwen3Config,
)

from tests.characters import VOCABULARY, save_tokenizer

PROMPT = "What is 12 times 3, in words?"
SHAPE: dict[str, Any] = {
    "vocab_size": len(VOCABULARY), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512,
    "bos_token_id": None, "eos_token_id": None, "pad_token_id": 0,
}  # fmt: skip
WINDOW = 8
LAYERS = ["sliding_attention", "full_attention"] * 2
VISION = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1,
    "image_size": 28, "patch_size": 14,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10_000.0, "factor": 4.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
}  # fmt: skip
GEMMA3 = {**SHAPE, "sliding_window": WINDOW, "layer_types": LAYERS, "query_pre_attn_scalar": 16}

CONFIGS: dict[str, PretrainedConfig] = {
    "llama3": LlamaConfig(**SHAPE, rope_parameters=LLAMA3),
    "qwen3": Qwen3Config(**SHAPE, tie_word_embeddings=True),
    "gemma3": Gemma3TextConfig(**GEMMA3),
    "gemma3-capped": Gemma3TextConfig(**GEMMA3, final_logit_softcapping=2.0),
    "gemma3-vision": Gemma3Config(text_config=GEMMA3, vision_config=VISION, mm_tokens_per_image=4),
}


@dataclass(frozen=True)
class Tiny:
    """A checkpoint whose greedy answer to `PROMPT` is ``tokens``, with the one that ends it.

    Attributes:
        separator: a character of which the answer has several.
    """

    path: Path
    tokens: list[int]
    separator: str


def save(name: str, folder: Path) -> Tiny:
    """A checkpoint of an architecture in ``folder``."""
    prompt = [VOCABULARY.index(character) for character in PROMPT]
    for seed in range(100):
        model = _random(CONFIGS[name], seed)
        tokens = _greedy(model, prompt, 60)
        separator, end = _roles(tokens)
        if separator is not None and end is not None:
            model.generation_config.eos_token_id = end
            model.save_pretrained(folder)
            save_tokenizer(folder)
            return Tiny(folder, tokens[: tokens.index(end) + 1], VOCABULARY[separator])
    raise AssertionError("no seed gives an answer with several steps")


def _random(config: PretrainedConfig, seed: int) -> Any:
    """Weights that are large enough for what a model writes next to depend on more than its last token."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            matrix = parameter.dim() > 1
            parameter.normal_(0.0 if matrix else 2.0, 0.3 if matrix else 0.1)
    return model


def _greedy(model: Any, prompt: list[int], count: int) -> list[int]:
    ids = torch.tensor([prompt])
    settings = {"do_sample": False, "max_new_tokens": count, "pad_token_id": 0}
    written = model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
    return [int(token) for token in written[0, len(prompt) :]]


def _roles(tokens: list[int]) -> tuple[int | None, int | None]:
    """A token that separates steps, and a later one that ends the answer."""
    first = {token: tokens.index(token) for token in set(tokens)}
    end = max(first, key=lambda token: first[token])
    before = tokens[: first[end]]
    letters = [token for token in before if VOCABULARY[token].strip()]
    separator, times = Counter(letters).most_common(1)[0] if letters else (0, 0)
    fits = len(before) >= 2 * WINDOW and 2 <= times < len(before) / 3 and 0 not in (*before, end)
    return (separator, end) if fits else (None, None)


NAMES = {
    "embed_tokens": "token_embd", "norm": "output_norm", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}  # fmt: skip


def save_gguf(tiny: Tiny, file: Path, *, output: bool = False, end: int | None = None) -> Path:
    """A Qwen3 checkpoint as a GGUF file of float32.

    Args:
        output: whether the file has the embedding a second time, quantised to 8 bits, as output layer.
    """
    from gguf import GGMLQuantizationType, GGUFWriter, quantize
    from tokenizers.pre_tokenizers import ByteLevel

    model = AutoModelForCausalLM.from_pretrained(tiny.path)
    config, writer = model.config, GGUFWriter(file, "qwen3")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    level = ByteLevel(add_prefix_space=False, use_regex=False)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([VOCABULARY[0], *(level.pre_tokenize_str(c)[0][0] for c in VOCABULARY[1:])])
    writer.add_token_types([3, *[1] * (len(VOCABULARY) - 1)])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(tiny.tokens[-1] if end is None else end)
    writer.add_add_bos_token(False)
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    for name, values in weights.items():
        if name != "lm_head.weight":
            writer.add_tensor(_gguf_name(name), values)
    if output:
        kind = GGMLQuantizationType.Q8_0
        writer.add_tensor(
            "output.weight", quantize(weights["model.embed_tokens.weight"], kind), raw_dtype=kind
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _gguf_name(name: str) -> str:
    place, _, kind = name.removeprefix("model.").rpartition(".")
    if not place.startswith("layers."):
        return f"{NAMES[place]}.{kind}"
    _, block, part = place.split(".", 2)
    return f"blk.{block}.{NAMES[part]}.{kind}"
