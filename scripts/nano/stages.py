"""The stages of a training, each on a mix of problems nearer to those of use."""

from __future__ import annotations

import copy
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import PreTrainedTokenizerFast

from scripts.nano.data import batches
from scripts.nano.network import build, load_state, optimizers, save_state, update
from scripts.program import console
from stepwise.data.nano.story import BRIDGE, STANDARD, TRAINING, Mix


@dataclass(frozen=True)
class Stage:
    """A part of the training: where it keeps its state, how long it is, on which problems."""

    state: Path
    budget: int
    rate: Callable[[float], float]
    mix: Mix
    seed: int
    short_first: int = 0


def schedule(progress: float) -> float:
    """Learning-rate factor: 2% warm-up, flat, then linear to 0 over the last three quarters."""
    return min(1.0, progress / 0.02 + 0.02, (1.0 - progress) / 0.75 + 1e-3)


def train_model(name: str, cfg: DictConfig, tokenizer: PreTrainedTokenizerFast, folder: Path) -> Any:
    """Train one model: ``tokens`` on the training mix, ``bridge`` and ``polish`` on those nearer to use.

    Each stage resumes from its state file when it is there. The matrices that compute are bf16; the
    optimizers work on an fp32 master copy.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(cfg.seed)
    master = build(cfg.models[name], tokenizer, cfg.architecture).to(device)
    for stage in (
        Stage(folder / "state.pt", cfg.tokens[name], schedule, TRAINING, cfg.seed, cfg.short_first),
        Stage(
            folder / "bridge.pt",
            cfg.bridge[name],
            lambda progress: 0.3 * (1 - progress),
            BRIDGE,
            cfg.seed + 1,
        ),
        Stage(
            folder / "polish.pt",
            cfg.polish[name],
            lambda progress: 0.5 * (1 - progress),
            STANDARD,
            cfg.seed + 1,
        ),
    ):
        model = run_stage(master, stage, cfg, tokenizer)
    return model.eval()


def run_stage(master: Any, stage: Stage, cfg: DictConfig, tokenizer: PreTrainedTokenizerFast) -> Any:
    """Train ``master`` in place; returns its bf16 copy."""
    name = stage.state.parent.name
    optims = optimizers(master, cfg.models[name])
    base = [[group["lr"] for group in optim.param_groups] for optim in optims]
    seen, step = load_state(stage.state, master, optims) if stage.state.exists() else (0, 0)
    model = copy.deepcopy(master).to(torch.bfloat16).train()
    model.model.rotary_emb = copy.deepcopy(master.model.rotary_emb)  # bf16 would round its frequencies
    started, before = time.time(), seen
    label = f"{name} {sum(p.numel() for p in model.parameters()) / 1e6:.2f}M"
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    if seen:
        console.print(f"{stage.state}: {seen:,} of {stage.budget:,} tokens are seen.")
    with Progress(*columns, console=console) as progress, (stage.state.parent / "log.jsonl").open("a") as log:
        task = progress.add_task(label, total=stage.budget, completed=seen)
        stream = batches(tokenizer, cfg.batch_tokens, stage.mix, stage.seed, stage.short_first)
        data = itertools.islice(stream, step, None)
        while seen < stage.budget:
            inputs, targets = next(data)
            for optim, rates in zip(optims, base, strict=True):
                for group, rate in zip(optim.param_groups, rates, strict=True):
                    group["lr"] = rate * stage.rate(seen / stage.budget)
            loss = update(model, master, optims, inputs.to(master.device), targets.to(master.device))
            seen, step = seen + inputs.numel(), step + 1
            progress.update(task, completed=seen)
            if step % 20 == 0:
                seconds = time.time() - started
                row = {"step": step, "tokens": seen, "loss": round(float(loss), 4),
                       "tokens_per_s": round((seen - before) / seconds)}  # fmt: skip
                progress.update(task, description=f"{label} loss {row['loss']:.4f}")
                print(json.dumps(row), file=log, flush=True)
            if step % cfg.checkpoint_every == 0:
                save_state(stage.state, master, optims, seen, step)
    save_state(stage.state, master, optims, seen, step)
    return model
