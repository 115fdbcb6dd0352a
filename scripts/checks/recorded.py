"""Are these the models that a recording was made with? They read what is in it.

    python -m scripts.checks.recorded recording=recordings/gsm8k-qwen_coder pair=qwen_coder dataset=gsm8k

A recording knows a checkpoint by its hash and a server's model by the name that the pair gives it; neither
says in which precision it ran, nor what the server really has loaded. So each model reads the first steps of
``n`` problems: its own, whose log-probabilities are recorded from when it wrote them, and the drafts that it
read then. The exit code is 1 where their means are more than ``tolerance`` nats apart on average. The last
line is one JSON object.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig

from scripts.program import console, program
from scripts.settings import Routing, backend_of, check_counts
from stepwise.data import EVERYTHING
from stepwise.engine.backend import Sampling, reads
from stepwise.engine.concurrency import run
from stepwise.errors import ConfigError
from stepwise.evaluation.replayed import limit_of
from stepwise.recording.folder import Recording
from stepwise.recording.replay import recorded
from stepwise.recording.tree import Tree
from stepwise.types import Signals


@dataclass
class CheckRecorded(Routing):
    """What is compared."""

    recording: str = "recordings/gsm8k-qwen_coder"
    split: str = "test"
    n: int = 8
    tolerance: float = 0.02


@program("checks.recorded", CheckRecorded)
def main(cfg: DictConfig) -> None:
    check_counts(cfg, "n")
    pair, recording = instantiate(cfg.pair), Recording(cfg.recording)
    if pair.prompt != recording.about["prompt"]:
        raise ConfigError(f"pair: {pair.name!r} asks with another prompt than recording {recording.folder}.")
    limit = limit_of(recording, cfg.split, cfg.dataset.name)
    problems = [
        problem
        for problem in instantiate(cfg.dataset, split=cfg.split, limit=limit)
        if recorded(recording.tree, problem, cfg.split)
    ]
    if not problems:
        raise ConfigError(f"split: {recording.folder} has no problem of {cfg.dataset.name}, {cfg.split!r}.")
    backends = pair.open(backend=backend_of(cfg), models=cfg.models)
    if deaf := [name for name, backend in backends.items() if not reads(backend)]:
        raise ConfigError(f"model {deaf[0]!r}: its backend does not tell how likely a text is.")
    prompts = {model.name: model.prompt or pair.prompt for model in pair.models}

    async def compare() -> dict[str, list[float]]:
        apart = defaultdict[str, list[float]](list)
        for reader, backend in backends.items():
            for problem in problems[: cfg.n]:
                prompt = backend.encode(prompts[reader].replace("{question}", problem.question))
                for writer, ids, known in first_steps(recording.tree, problem.id, reader, list(prompts)):
                    sampling = Sampling(max_tokens=1, read=len(ids))
                    now = (await backend.generate((*prompt, *ids), sampling)).signals
                    apart[f"{reader} reads {writer}"].append(abs(now.mean_logprob - known.mean_logprob))
            await backend.close()
        return apart

    rows = {}
    for what, apart in run(compare()).items():
        rows[what] = {"steps": len(apart), "mean": float(np.mean(apart)), "largest": max(apart)}
        console.print(
            f"{what}: {len(apart)} steps, mean log-probabilities {np.mean(apart):.4f} nats apart, "
            f"at most {max(apart):.4f}"
        )
    print(json.dumps({"recording": recording.folder.name, "rows": rows}))
    if not rows or max(row["mean"] for row in rows.values()) > cfg.tolerance:
        sys.exit(1)


def first_steps(
    tree: Tree, problem: str, reader: str, models: Sequence[str]
) -> Iterator[tuple[str, tuple[int, ...], Signals]]:
    """The first steps of a problem whose log-probabilities by ``reader`` are recorded: who wrote one, its
    tokens, and what is recorded. (A step that ends the answer counts a token that is not in it.)"""
    for writer in models:
        step = tree.completion(problem, writer, (), EVERYTHING)
        if step is None or not step.token_ids or step.finish == "end":
            continue
        read = (
            step if writer == reader else tree.reading(problem, reader, step.token_ids, len(step.token_ids))
        )
        if read is not None:
            yield writer, step.token_ids, read.signals


if __name__ == "__main__":
    main()
