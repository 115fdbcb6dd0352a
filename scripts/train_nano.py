"""Train the nano pair: small, middle and large language models for the nano problems.

    python -m scripts.train_nano                        # all three, as shipped
    python -m scripts.train_nano only=small tokens.small=2000000
    python -m scripts.train_nano --config-name train_nano_qwen2   # another family, to test transfer on

Writes ordinary Hugging Face checkpoints (Llama or Qwen2, bf16 safetensors) and a table of step accuracy by
skill. Fresh problems are drawn all along, so there are no epochs. A run that is killed resumes
from its last checkpoint; the data order depends on the seed and the position alone.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import torch
from omegaconf import MISSING, DictConfig
from transformers import PreTrainedTokenizerFast

from scripts.nano.accuracy import step_accuracy
from scripts.nano.stages import train_model
from scripts.nano.tokenizer import train_tokenizer
from scripts.program import program, save_config
from stepwise.data.nano.problems import problems
from stepwise.errors import ConfigError
from stepwise.evaluation import provenance


@dataclass
class Shape:
    """A model's size and learning rates."""

    width: int = MISSING
    layers: int = MISSING
    mlp: int = MISSING
    heads: int = MISSING
    head: int = MISSING  # width of a head
    muon_lr: float = MISSING
    adam_lr: float = MISSING


@dataclass
class TrainNano:
    """The models, and for how many tokens each is trained in each stage."""

    output: str = "outputs/nano"
    seed: int = 0
    only: str | None = None  # small, middle or large; null trains all three
    threads: int = 2
    test_problems: int = 1000
    architecture: str = "llama"  # or qwen2
    vocab_size: int = 1024
    superwords: bool = True  # a name and its "has" may be one token
    tokenizer_problems: int = 20000
    batch_tokens: int = 4096
    checkpoint_every: int = 400
    short_first: int = 6000
    models: dict[str, Shape] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    bridge: dict[str, int] = field(default_factory=dict)
    polish: dict[str, int] = field(default_factory=dict)


@program("train_nano", TrainNano)
def main(cfg: DictConfig) -> None:
    if cfg.only not in (None, *cfg.models):
        raise ConfigError(f"only must be one of {', '.join(cfg.models)}, not {cfg.only!r}.")
    output = provenance.writable(cfg.output)
    save_config(cfg, output)
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
