"""Which signals tell wrong drafts from right ones, against true labels of steps.

    python -m scripts.checks.signals                  # nano: n problems of the validation split

The small model solves alone, and the large one reads each of its steps. A step is right if it is the
generator's own; steps after the first wrong one have no label. The last line is one JSON object.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import DictConfig

from scripts.program import console, program
from scripts.scope.recorded import auc
from scripts.settings import Routing, engine_of
from stepwise.data.nano.problems import NanoProblem
from stepwise.routers import ThresholdRouter, Verified
from stepwise.types import Signals, Step, Trace

SCORES: dict[str, Callable[[Signals], float]] = {
    "mean": lambda signals: signals.mean_logprob,
    "least likely token": lambda signals: signals.min_logprob,
    "whole": lambda signals: signals.mean_logprob * signals.length,
    "entropy of the first token": lambda signals: -signals.first_entropy,
}


@dataclass
class CheckSignals(Routing):
    """What is measured."""

    split: str = "validation"
    n: int = 400
    seed: int = 0


@program("checks.signals", CheckSignals)
def main(cfg: DictConfig) -> None:
    pair = instantiate(cfg.pair)
    engine = engine_of(cfg, pair)
    problems = instantiate(cfg.dataset, split=cfg.split, limit=cfg.n)
    router = ThresholdRouter(Verified(), float("inf"), "read_all")

    async def solve() -> list[Trace]:
        return [trace async for trace in engine.solve_many(problems, router)]

    steps = [step for trace in engine.run(solve()) for step in labelled(trace)]
    engine.run(engine.close())
    right = np.array([float(good) for _, good in steps])
    rows = {}
    for who, signals in (("small", [s.signals for s, _ in steps]), ("large", [_read(s) for s, _ in steps])):
        for name, score in SCORES.items():
            values = np.array([score(s) for s in signals])
            rows[f"{who}: {name}"] = [round(x, 4) for x in interval(values, right, cfg.seed)]
    for name, (value, low, high) in rows.items():
        console.print(f"{name:38} AUC {value:.3f} ({low:.3f} to {high:.3f})")
    print(json.dumps({"problems": len(problems), "steps": len(steps), "right": right.mean(), "auc": rows}))


def labelled(trace: Trace) -> list[tuple[Step, bool]]:
    """The steps up to the first wrong one, and whether each is right."""
    gold, labels = [step.text for step in cast(NanoProblem, trace.problem).steps], []
    for i, step in enumerate(trace.steps):
        labels.append((step, i < len(gold) and step.text == gold[i]))
        if not labels[-1][1]:
            break
    return labels


def interval(score: NDArray[np.float64], right: NDArray[np.float64], seed: int) -> tuple[float, float, float]:
    """AUC, and its 95% bootstrap interval over steps."""
    draws = np.random.default_rng(seed).integers(0, len(score), (300, len(score)))
    low, high = np.nanpercentile([auc(score[d], right[d]) for d in draws], (2.5, 97.5))
    return auc(score, right), float(low), float(high)


def _read(step: Step) -> Signals:
    return step.reading.signals if step.reading else Signals()


if __name__ == "__main__":
    main()
