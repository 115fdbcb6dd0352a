"""Train a process reward model for the nano pair: is this step right?

    python -m scripts.baselines.prm
    python -m scripts.evaluate pair.judge=outputs/prm/model +router@routers.prm=prm

Chains are sampled from the pair itself (the small model alone, and both mixed at random), their
steps are labelled with the generator's gold lines up to the first wrong one, and the large model is
fine-tuned to write "9" or "0" after a step, which SpecReason reads as a grade and TRIM as a reward.
The checkpoint runs on any backend as the pair's judge.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.progress import Progress, track
from scipy.stats import mannwhitneyu
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from scripts.nano.data import IGNORED
from scripts.nano.network import optimizers, update
from scripts.program import console, program, save_config
from scripts.settings import Solving, backend_of
from stepwise.data.nano.problems import NanoProblem
from stepwise.engine.engine import Engine
from stepwise.evaluation import provenance
from stepwise.routers import Always, Random
from stepwise.store.opening import open_store
from stepwise.types import Router, Trace

GOOD, BAD = "9", "0"
Example = tuple[list[int], list[int], list[bool]]
"""Token ids of a chain up to its first wrong step, the positions where steps end, and which are right."""


@dataclass
class RewardModel(Solving):
    """The chains that the reward model learns from, and its training."""

    output: str = "outputs/prm"
    seed: int = 0
    problems: dict[str, int] = field(default_factory=lambda: {"train": 2500, "validation": 300})
    mixes: list[float] = field(default_factory=lambda: [0.2, 0.5])  # shares of steps by the large model
    epochs: int = 6
    batch_tokens: int = 8192
    threads: int = 1
    muon_lr: float = 0.008
    adam_lr: float = 0.002


@program("baselines.prm", RewardModel)
def main(cfg: DictConfig) -> None:
    output = provenance.writable(cfg.output)
    save_config(cfg, output)
    torch.manual_seed(cfg.seed)
    pair = instantiate(cfg.pair)
    engine = pair.engine(backend=backend_of(cfg), store=open_store(cfg.store))
    samplers: list[Router] = [Always(engine.models[0]), *(Random(p, seed=cfg.seed) for p in cfg.mixes)]
    data = {
        split: collect(engine, instantiate(cfg.dataset, split=split, limit=cfg.problems[split]), samplers)
        for split in ("train", "validation")
    }
    engine.run(engine.close())
    path = pair.models[-1].path
    tokenizer = PreTrainedTokenizerFast.from_pretrained(path)
    bad, good = tokenizer.convert_tokens_to_ids([BAD, GOOD])
    model = fine_tune(path, data["train"], (bad, good), cfg)
    figures = quality(model, data["validation"], (bad, good))
    model.save_pretrained(output / "model")
    tokenizer.save_pretrained(output / "model")
    steps = {split: sum(len(example[2]) for example in part) for split, part in data.items()}
    record = {"steps": steps, **figures, **provenance.describe()}
    (output / "summary.json").write_text(json.dumps(record, indent=1) + "\n")
    console.print(
        f"{steps['validation']} validation steps, {figures['good']:.1%} of them right: "
        f"AUC {figures['auc']:.4f}, accuracy {figures['accuracy']:.2%}"
    )


def collect(engine: Engine, problems: Sequence[NanoProblem], samplers: Sequence[Router]) -> list[Example]:
    """Labelled chains of all samplers; equal chains once."""

    async def solve(router: Router) -> list[Trace]:
        return [trace async for trace in engine.solve_many(problems, router, concurrency=128)]

    examples: dict[tuple[int, ...], Example] = {}
    for router in track(samplers, description="sampling chains", console=console):
        for trace in engine.run(solve(router)):
            example = label(engine, trace)
            examples[tuple(example[0])] = example
    return [examples[ids] for ids in sorted(examples)]


def label(engine: Engine, trace: Trace) -> Example:
    """Compare a chain with the gold solution line by line, up to the first that differs.

    What follows a wrong step is neither right nor wrong by itself (Lightman et al. 2023, arXiv 2305.20050,
    label up to the first error too).
    """
    gold = [step.text for step in cast(NanoProblem, trace.problem).steps]
    ids, ends, rights = list(engine.prompt_ids(trace)), [], []
    for i, step in enumerate(trace.steps):
        ids += step.token_ids
        ends.append(len(ids) - 1)
        rights.append(i < len(gold) and step.text == gold[i])
        if not rights[-1]:
            break
    return ids, ends, rights


def batches(
    data: Sequence[Example], verdicts: tuple[int, int], size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(inputs [B, T], targets [B, T]) of one pass over the data in random order; targets at step ends."""
    groups: list[list[Example]] = [[]]
    for example in sorted(data, key=lambda example: len(example[0])):
        if (len(groups[-1]) + 1) * len(example[0]) > size:
            groups.append([])
        groups[-1].append(example)
    for at in torch.randperm(len(groups)).tolist():
        group = groups[at]
        width = max(len(ids) for ids, _, _ in group)
        inputs = torch.zeros(len(group), width, dtype=torch.long)
        targets = torch.full((len(group), width), IGNORED)
        for row, (ids, ends, rights) in enumerate(group):
            inputs[row, : len(ids)] = torch.tensor(ids)
            targets[row, torch.tensor(ends)] = torch.tensor([verdicts[right] for right in rights])
        yield inputs, targets


def fine_tune(path: str, data: Sequence[Example], verdicts: tuple[int, int], cfg: DictConfig) -> Any:
    """The large model, taught to write its verdict after every step."""
    torch.set_num_threads(cfg.threads)
    master = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")
    model = copy.deepcopy(master).to(torch.bfloat16).train()
    model.model.rotary_emb = copy.deepcopy(master.model.rotary_emb)  # bf16 would round its frequencies
    optims = optimizers(master, cfg)
    rates = [[group["lr"] for group in optim.param_groups] for optim in optims]
    total = cfg.epochs * sum(len(ids) for ids, _, _ in data)
    seen = 0
    with Progress(console=console) as progress:
        task = progress.add_task("fine-tuning", total=total)
        for _ in range(cfg.epochs):
            for inputs, targets in batches(data, verdicts, cfg.batch_tokens):
                for optim, before in zip(optims, rates, strict=True):
                    for group, rate in zip(optim.param_groups, before, strict=True):
                        group["lr"] = rate * max(1.0 - seen / total, 0.01)
                loss = update(model, master, optims, inputs, targets)
                seen += inputs.numel()
                progress.update(task, completed=seen, description=f"fine-tuning, loss {float(loss):.4f}")
    return model.eval()


@torch.no_grad()
def quality(model: Any, data: Sequence[Example], verdicts: tuple[int, int]) -> dict[str, float]:
    """AUC and accuracy of P(good) over the steps of unseen problems."""
    scores, rights = [], []
    for ids, ends, right in data:
        logits = model(torch.tensor([ids])).logits[0, ends].float()
        bad, good = logits[:, list(verdicts)].unbind(1)
        scores += torch.sigmoid(good - bad).tolist()
        rights += right
    score, truth = np.array(scores), np.array(rights)
    auc = mannwhitneyu(score[truth], score[~truth]).statistic / (truth.sum() * (~truth).sum())
    return {
        "auc": float(auc),
        "accuracy": float(((score >= 0.5) == truth).mean()),
        "good": float(truth.mean()),
    }


if __name__ == "__main__":
    main()
