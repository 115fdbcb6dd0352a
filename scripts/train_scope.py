"""Train a language model to estimate others, from their fingerprints (SCOPE, arXiv 2601.22323).

    python -m scripts.fingerprint anchors=nano_training output=outputs/scope_anchors \\
        models=[small,middle] fingerprints=outputs/scope_anchors/fingerprints.db
    python -m scripts.train_scope                               # a nano-sized estimator, on the CPU
    python -m scripts.train_scope scope/base@base=qwen3_4b      # Qwen3-4B with LoRA, one GPU

Stage 1, supervised: rationales that a teacher wrote knowing the outcome. Stage 2, GRPO with a reward that is
0 unless the format parses. TRL trains both. The base (few-shot), the supervised and the reinforced model are
measured on questions that no stage has seen. Every stage leaves checkpoints; a run that is killed goes on
from the last one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import MISSING, DictConfig, OmegaConf

from scripts.program import console, program, save_config
from scripts.scope.stages import Samples, commoner, differences, figures
from scripts.scope.trainers import Datum, reinforce, supervise
from stepwise.engine.backend import Backend, Sampling
from stepwise.errors import ConfigError
from stepwise.evaluation import provenance
from stepwise.models.model import Model, options_of
from stepwise.scope import AnchorSet, FingerprintStore
from stepwise.scope.embed import open_embedder
from stepwise.scope.features import Features
from stepwise.scope.hindsight import Teacher
from stepwise.scope.known import Known, gather
from stepwise.scope.prompt import Example, ask, seed_of, write
from stepwise.store.backend import StoredBackend
from stepwise.store.opening import open_store

STAGES = ("few_shot", "sft", "grpo")


@dataclass
class Measure:
    """How the model is measured after each stage."""

    cases: int = 250
    samples: int = 2
    temperature: float = 0.7
    concurrency: int = 64


@dataclass
class TrainScope:
    """The fingerprints to learn from, the model that learns and how it is measured."""

    base: Any = MISSING
    output: str = "outputs/train_scope"
    store: str = "${output}/completions.db"  # what the models answered, in a file or at redis://HOST:PORT/0
    seed: int = 0
    anchor_set: str = "outputs/scope_anchors/anchors.json"
    fingerprints: str = "outputs/scope_anchors/fingerprints.db"
    embedder: Any = "tfidf"  # or several: [tfidf,FOLDER]
    k: int = 2  # examples in a prompt
    cases: int | None = None  # at most this many to learn from
    test_share: float = 0.15  # of the questions: no stage sees them
    teacher: Any = MISSING
    backend: str = "transformers"  # measures the models
    measure: Measure = field(default_factory=Measure)


@program("train_scope", TrainScope)
def main(cfg: DictConfig) -> None:
    output = provenance.writable(cfg.output)
    provenance.same_run(output, _about(cfg))
    save_config(cfg, output)
    train, test = cases(cfg, output)
    console.print(f"{len(train)} cases to learn from, {len(test)} on other questions to measure on")
    settings: Any = OmegaConf.to_container(cfg.base, resolve=True)
    folders = {
        "few_shot": settings["model"],
        "sft": str(output / "sft" / "model"),
        "grpo": str(output / "grpo" / "model"),
    }
    samples = {"few_shot": measure(folders["few_shot"], test, cfg)}
    supervise(train, settings, output / "sft", seed=cfg.seed)
    samples["sft"] = measure(folders["sft"], test, cfg)
    reinforce(train, settings, folders["sft"], output / "grpo", seed=cfg.seed)
    samples["grpo"] = measure(folders["grpo"], test, cfg)
    summary = {
        "cases": {"train": len(train), "test": len(test)},
        "samples": cfg.measure.samples,
        "stages": {stage: figures(samples[stage], test, cfg.seed) for stage in STAGES},
        "always_the_commoner_answer": commoner(train, test, cfg.seed),
        "differences": differences(samples, test, cfg.seed),
        **provenance.describe(),
    }
    (output / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    for stage in STAGES:
        console.print(
            f"{stage}: " + ", ".join(f"{k} {_shown(v)}" for k, v in summary["stages"][stage].items())
        )
    console.print(f"always the commoner answer: {_shown(summary['always_the_commoner_answer'])}")
    for line in summary["differences"]:
        console.print(f"  {line['of']} minus {line['to']}, {line['in']}: {_shown(line['difference'])}")


def _about(cfg: DictConfig) -> Any:
    """What every stage depends on."""
    about: Any = OmegaConf.to_container(cfg, resolve=True)
    elsewhere = ("output", "store", "backend", "measure")
    return {name: value for name, value in about.items() if name not in elsewhere}


def cases(cfg: DictConfig, output: Path) -> tuple[list[Datum], list[Datum]]:
    """Prompts with what really happened, for training and for measuring; no question is in both.

    The examples in every prompt are training questions other than the one that it is about.
    """
    anchors, store = AnchorSet.load(cfg.anchor_set), FingerprintStore(cfg.fingerprints)
    if not len(store):
        raise ConfigError(f"fingerprints: {cfg.fingerprints} is empty; run `python -m scripts.fingerprint`.")
    features = Features(open_embedder(cfg.embedder))
    known = gather(anchors, features.fit(anchors.questions), store.on(anchors.digest), "correct", 0.5)
    random = np.random.default_rng(cfg.seed)
    held = random.random(len(anchors)) < cfg.test_share
    teacher: Teacher = instantiate(cfg.teacher)
    every = [
        (row, at) for row in range(len(known.models)) for at in range(len(anchors)) if known.seen[row, at]
    ]
    built = [_case(known, row, at, ~held, cfg.k) for row, at in every]
    rationales = teacher.explain([case for case, (_, at) in zip(built, every, strict=True) if not held[at]])
    train: list[Datum] = []
    test: list[Datum] = []
    explained = iter(rationales)
    for case, (_, at) in zip(built, every, strict=True):
        question, model, examples, correct, tokens = case
        prompt = cfg.base.template.replace("{prompt}", ask(question, model, examples, cfg.base.form))
        completion = "" if held[at] else write(next(explained), correct, tokens)
        datum = Datum(prompt, completion, model, correct, tokens)
        (test if held[at] else train).append(datum)
    for part in (train, test):
        random.shuffle(part)
    return train[: cfg.cases], test[: cfg.measure.cases]


def _case(
    known: Known, row: int, at: int, pool: NDArray[np.bool_], k: int
) -> tuple[str, str, list[Example], bool, int]:
    usable = np.flatnonzero(pool & known.seen[row])
    usable = usable[usable != at]
    near = known.among.similarity[at, usable]
    best = usable[np.argsort(-near, kind="stable")[:k]]
    examples = [
        Example(known.anchors.questions[i], bool(known.value[row, i] >= 0.5), round(known.tokens[row, i]))
        for i in reversed(best)
    ]
    outcome = bool(known.value[row, at] >= 0.5), round(known.tokens[row, at])
    return known.anchors.questions[at], known.models[row], examples, *outcome


def measure(model: str, test: Sequence[Datum], cfg: DictConfig) -> Samples:
    """Answers of one model to all test cases; kept, so that a rerun does not ask again."""
    opened = Model("estimator", model).open(options_of(cfg.backend), share=1)
    backend: Backend = StoredBackend(opened, open_store(cfg.store))

    async def answer(gate: asyncio.Semaphore, datum: Datum, sample: int) -> str:
        async with gate:
            chance = seed_of(datum.prompt, sample, cfg.seed)
            sampling = Sampling(cfg.base.max_tokens, cfg.measure.temperature, seed=chance)
            return (await backend.generate(backend.encode(datum.prompt), sampling)).text

    async def every() -> Samples:
        gate = asyncio.Semaphore(cfg.measure.concurrency)
        asked = [answer(gate, datum, sample) for datum in test for sample in range(cfg.measure.samples)]
        texts = await asyncio.gather(*asked)
        await backend.close()
        size = cfg.measure.samples
        return [texts[i : i + size] for i in range(0, len(texts), size)]

    with console.status(f"measuring {Path(model).parent.name or model}"):
        return asyncio.run(every())


def _shown(values: Sequence[float] | None) -> str:
    return "-" if values is None else f"{values[0]:.3f} ({values[1]:.3f} to {values[2]:.3f})"


if __name__ == "__main__":
    main()
