"""A Llama checkpoint as the one file that llama.cpp reads, with the same float32 weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""Of a layer's weights, there and here."""


def save_gguf(checkpoint: Path, file: Path, chat_template: str = "") -> Path:
    """Write a checkpoint whose tokenizer is a byte-level BPE."""
    from gguf import GGUFWriter

    config = json.loads((checkpoint / "config.json").read_text())
    writer = GGUFWriter(file, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    _add_tokenizer(writer, json.loads((checkpoint / "tokenizer.json").read_text()), config)
    _add_weights(writer, checkpoint, config)
    if chat_template:
        writer.add_chat_template(chat_template)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _add_tokenizer(writer: Any, tokenizer: dict[str, Any], config: dict[str, Any]) -> None:
    """Prompts come as token ids, so that it is needed for the way back only."""
    from gguf import TokenType

    pieces = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].__getitem__)
    special = {token["content"] for token in tokenizer["added_tokens"]}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(pieces)
    writer.add_token_types([TokenType.CONTROL if p in special else TokenType.NORMAL for p in pieces])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])


def _add_weights(writer: Any, checkpoint: Path, config: dict[str, Any]) -> None:
    from safetensors.torch import load_file

    weights = load_file(checkpoint / "model.safetensors")
    outer = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    for key, weight in weights.items():
        name = key.removesuffix(".weight")
        if name in outer:
            target = outer[name]
        else:
            _, _, layer, part = name.split(".", 3)
            target = f"blk.{layer}.{NAMES[part]}"
        value = weight.float()
        if name.endswith(("q_proj", "k_proj")):  # there the two halves of a rotated pair lie side by side
            value = value.reshape(-1, 2, config["head_dim"] // 2, value.shape[-1]).swapaxes(1, 2)
            value = value.reshape(weight.shape)
        writer.add_tensor(f"{target}.weight", value.numpy())
