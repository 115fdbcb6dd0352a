"""An untrained network, its optimizers, one step of them, and a state that survives a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config

from scripts.nano.data import IGNORED
from stepwise.errors import ConfigError

ARCHITECTURES = {"llama": LlamaConfig, "qwen2": Qwen2Config}


def build(config: DictConfig, tokenizer: PreTrainedTokenizerFast, architecture: str) -> Any:
    """An untrained model.

    Raises:
        ConfigError: if the architecture is unknown.
    """
    if architecture not in ARCHITECTURES:
        raise ConfigError(f"architecture must be one of {', '.join(ARCHITECTURES)}, not {architecture!r}.")
    return AutoModelForCausalLM.from_config(
        ARCHITECTURES[architecture](
            vocab_size=len(tokenizer),
            hidden_size=config.width,
            intermediate_size=config.mlp,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.heads,
            head_dim=config.head,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            attn_implementation="eager",  # a quarter faster to train on a CPU than the fused kernel
        )
    )


def optimizers(model: Any, config: DictConfig) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for everything else."""
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=config.muon_lr, weight_decay=0.0, momentum=0.95),
        torch.optim.AdamW(rest, lr=config.adam_lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def update(
    model: Any, master: Any, optims: list[torch.optim.Optimizer],
    inputs: torch.Tensor, targets: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """One optimizer step on the tokens of the solutions; returns the loss in nats per token."""
    hidden = model.model(inputs, use_cache=False).last_hidden_state
    keep = targets != IGNORED
    loss = torch.nn.functional.cross_entropy(model.lm_head(hidden[keep]).float(), targets[keep])
    loss.backward()  # type: ignore[no-untyped-call]
    for slow, fast in zip(master.parameters(), model.parameters(), strict=True):
        slow.grad, fast.grad = fast.grad.float(), None
    torch.nn.utils.clip_grad_norm_(master.parameters(), 1.0)
    for optim in optims:
        optim.step()
    with torch.no_grad():
        for slow, fast in zip(master.parameters(), model.parameters(), strict=True):
            fast.copy_(slow)
    return loss.detach()


def load_state(path: Path, model: Any, optims: list[torch.optim.Optimizer]) -> tuple[int, int]:
    """Restore weights and optimizers; returns the tokens seen and the steps taken."""
    state = torch.load(path, map_location=model.device)
    model.load_state_dict(state["model"])
    for optim, saved in zip(optims, state["optims"], strict=True):
        optim.load_state_dict(saved)
    return state["seen"], state["step"]


def save_state(path: Path, model: Any, optims: list[torch.optim.Optimizer], seen: int, step: int) -> None:
    """Write the training state so that a kill at any moment leaves a readable file."""
    partial = path.with_suffix(".partial")
    optim_states = [optim.state_dict() for optim in optims]
    torch.save({"model": model.state_dict(), "optims": optim_states, "seen": seen, "step": step}, partial)
    partial.replace(path)
