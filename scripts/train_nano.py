"""Train the nano pair: small, middle and large language models for the nano problems.

    python -m scripts.train_nano                        # all three, as shipped
    python -m scripts.train_nano only=small tokens.small=2000000
    python -m scripts.train_nano --config-name train_nano_qwen2   # another family, to test transfer on

Writes ordinary Hugging Face checkpoints (Llama or Qwen2, bf16 safetensors) and a table of step accuracy by
skill. Fresh problems are drawn all along, so there are no epochs. A run that is killed resumes
from its last checkpoint; the data order depends on the seed and the position alone.
"""

from __future__ import annotations

import copy
import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config

from scripts import program
from stepwise.data.nano.problems import NanoProblem, problems
from stepwise.data.nano.story import BRIDGE, STANDARD, TRAINING, Mix
from stepwise.errors import ConfigError
from stepwise.evaluation import provenance

PROMPT = "{question}\n"
PAIRS_OF_DIGITS = r" ?\d{1,2}(?=(?:\d{2})*(?!\d))"
NAME_HAS = r" ?\p{L}+ has(?!\p{L})"
REST = (r"\n", r" ?\p{L}+", r" ?[^\s\p{L}\d]+")
ARCHITECTURES = {"llama": LlamaConfig, "qwen2": Qwen2Config}
CHUNK = 4096  # problems drawn at a time; batches are sorted by length within a chunk
SHORT = 5  # steps, the closing line included
IGNORED = -100


def train_tokenizer(
    vocab_size: int, sample_size: int, seed: int, superwords: bool = True
) -> PreTrainedTokenizerFast:
    """A byte-level BPE with newlines on their own and numbers cut in pairs of digits from the right.

    With ``superwords`` a name and its "has" may form one token (tokens across spaces: Liu et al. 2025,
    SuperBPE, arXiv 2503.13423): then looking up what a person has is plain induction, one token to the next.
    """
    pieces = (PAIRS_OF_DIGITS, *([NAME_HAS] if superwords else []), *REST)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex("|".join(pieces)), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    sample = itertools.islice(problems("train", seed, BRIDGE), sample_size)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((PROMPT.format(question=p.question) + p.solution for p in sample), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=AddedToken("<s>", special=True),
        eos_token=AddedToken("</s>", special=True),
        clean_up_tokenization_spaces=False,
    )


Example = tuple[list[int], int]
"""Token ids of a problem with its solution, and the length of the prompt."""


def encode(tokenizer: PreTrainedTokenizerFast, batch: list[NanoProblem]) -> list[Example]:
    prompts = tokenizer([PROMPT.format(question=p.question) for p in batch])["input_ids"]
    solutions = tokenizer([p.solution for p in batch], add_special_tokens=False)["input_ids"]
    eos = tokenizer.eos_token_id
    return [(a + b + [eos], len(a)) for a, b in zip(prompts, solutions, strict=True)]


def batches(
    tokenizer: PreTrainedTokenizerFast, tokens_per_batch: int, stage: Stage
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of (inputs [B, T], targets [B, T]); right-padded, prompt targets ignored.

    The first ``short_first`` problems have few steps: looking a quantity up is learnt much sooner
    where there are few to choose from.
    """
    every = problems("train", stage.seed + 1, stage.mix)
    short = itertools.islice((p for p in every if len(p.steps) <= SHORT), stage.short_first)
    stream = itertools.chain(short, every)
    generator = torch.Generator().manual_seed(stage.seed)
    while True:
        chunk = sorted(encode(tokenizer, list(itertools.islice(stream, CHUNK))), key=lambda e: len(e[0]))
        groups: list[list[Example]] = [[]]
        for example in chunk:
            if (len(groups[-1]) + 1) * len(example[0]) > tokens_per_batch:
                groups.append([])
            groups[-1].append(example)
        for index in torch.randperm(len(groups), generator=generator).tolist():
            yield collate(groups[index])


def collate(group: list[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(ids) for ids, _ in group) - 1
    inputs = torch.zeros(len(group), width, dtype=torch.long)
    targets = torch.full((len(group), width), IGNORED)
    for row, (ids, prompt) in enumerate(group):
        inputs[row, : len(ids) - 1] = torch.tensor(ids[:-1])
        targets[row, prompt - 1 : len(ids) - 1] = torch.tensor(ids[prompt:])
    return inputs, targets


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


@dataclass(frozen=True)
class Stage:
    """A part of the training: where it keeps its state, how long it is, on which problems."""

    state: Path
    budget: int
    rate: Callable[[float], float]
    mix: Mix
    seed: int
    short_first: int = 0


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
    with Progress(*columns) as progress, (stage.state.parent / "log.jsonl").open("a") as log:
        task = progress.add_task(label, total=stage.budget, completed=seen)
        data = itertools.islice(batches(tokenizer, cfg.batch_tokens, stage), step, None)
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


@torch.no_grad()
def step_accuracy(
    model: Any, tokenizer: PreTrainedTokenizerFast, sample: list[NanoProblem]
) -> tuple[dict[str, tuple[int, int]], float]:
    """(right, seen) by skill, and the share of chains with every step right.

    A step is right when greedy decoding after the gold steps before it writes the gold line. All
    steps of a problem are checked in one pass over the gold solution.
    """
    table: dict[str, tuple[int, int]] = {}
    whole = 0
    for problem, (ids, prompt) in zip(sample, encode(tokenizer, sample), strict=True):
        guesses = model(torch.tensor([ids[:-1]], device=model.device)).logits[0].argmax(-1).tolist()
        at, chain = prompt, True
        for step in problem.steps:
            length = len(tokenizer(step.text, add_special_tokens=False)["input_ids"])
            right = guesses[at - 1 : at - 1 + length] == ids[at : at + length]
            hits, seen = table.get(step.skill, (0, 0))
            table[step.skill] = (hits + right, seen + 1)
            at, chain = at + length, chain and right
        whole += chain
    return table, whole / len(sample)


@program("train_nano")
def main(cfg: DictConfig) -> None:
    if cfg.only not in (None, *cfg.models):
        raise ConfigError(f"only must be one of {', '.join(cfg.models)}, not {cfg.only!r}.")
    output = provenance.writable(cfg.output)
    OmegaConf.save(cfg, output / "config.yaml")
    torch.set_num_threads(cfg.threads)
    tokenizer_dir = output / "tokenizer"
    if not tokenizer_dir.exists():
        train_tokenizer(cfg.vocab_size, cfg.tokenizer_problems, cfg.seed, cfg.superwords).save_pretrained(
            tokenizer_dir
        )
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer_dir)
    for name in [cfg.only] if cfg.only else list(cfg.models):
        folder = output / name
        folder.mkdir(exist_ok=True)
        model = train_model(name, cfg, tokenizer, folder)
        model.to(torch.bfloat16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        report(
            name,
            *step_accuracy(model, tokenizer, list(itertools.islice(problems("test"), cfg.test_problems))),
        )


def report(name: str, table: dict[str, tuple[int, int]], chains: float) -> None:
    total = sum(seen for _, seen in table.values())
    print(f"{name}: {chains:.1%} of chains have every step right")
    for skill, (hits, seen) in sorted(table.items(), key=lambda row: row[1][0] / row[1][1]):
        print(f"  {skill:16s} {hits / seen:6.1%} right, {seen / total:6.1%} of steps")


if __name__ == "__main__":
    main()
