"""How often one step decides a chain, and whether its own probabilities say so, on recorded trees.

    python -m scripts.checks.decisive
    python -m scripts.checks.decisive recording=outputs/recordings/nano-nano longest=12

One model writes a chain but for one step, which the other one writes: the difference in the answer is what
that step was worth. Asked of every step of the chain that the model writes alone, for questions that both
models alone solve within ``longest`` steps, whose trees are whole. Intervals are 95%, over questions. The
last line is one JSON object.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.table import Table

from scripts.program import console, program
from scripts.scope.recorded import auc
from stepwise.errors import ConfigError
from stepwise.evaluation.replayed import Bench
from stepwise.recording.folder import Recording
from stepwise.types import Decision, Look, Signals, Step, Trace

SIGNALS: dict[str, Callable[[Signals], float]] = {
    "mean log-probability": lambda signals: signals.mean_logprob,
    "least likely token": lambda signals: signals.min_logprob,
}


@dataclass
class CheckDecisive:
    """What is measured."""

    recording: str = "recordings/gsm8k-qwen_coder"
    split: str = "test"
    longest: int = 6  # steps of either model's chain alone; the recorded trees are as deep
    seed: int = 0


@dataclass(frozen=True)
class AllBut:
    """A router: one model writes all steps but the one at ``place``, which the other one writes."""

    model: str
    other: str
    place: int
    name: str = "all_but"
    look: Look = "before"

    def decide(self, trace: Trace) -> Decision:
        return Decision(self.other if len(trace.steps) == self.place else self.model, 0.0)


@dataclass(frozen=True)
class Swap:
    """A step of the other model in a chain.

    Attributes:
        question: the problem's id.
        step: as the other model writes it.
        same: it wrote what was there.
        worth: of the chain's correctness with it, less without it.
    """

    question: str
    step: Step
    same: bool
    worth: int


@program("checks.decisive", CheckDecisive)
def main(cfg: DictConfig) -> None:
    whole = Bench(Recording(cfg.recording), cfg.split)
    short = [
        i for i, _ in enumerate(whole.problems)
        if all(whole.chains(model)[i].steps <= cfg.longest for model in whole.engine.models)
    ]  # fmt: skip
    if not short:
        raise ConfigError(f"longest: no question is solved by both models in {cfg.longest} steps.")
    bench, rows = whole.restricted(short), {}
    small, large = bench.engine.models[0], bench.engine.models[-1]
    for name, model, other in (("a draft accepted", large, small), ("a step rewritten", small, large)):
        rows[name] = summary(swaps(bench, model, other, cfg.longest), cfg.seed)
    console.print(table(rows))
    print(json.dumps({"questions": len(short), "split": cfg.split, "rows": rows}))


def swaps(bench: Bench, model: str, other: str, longest: int) -> list[Swap]:
    """Every step of every chain by ``model`` alone, written by the other one instead."""

    async def traces(place: int) -> dict[str, Trace]:
        router = AllBut(model, other, place)
        return {trace.problem.id: trace async for trace in bench.engine.solve_many(bench.problems, router)}

    alone, swapped = bench.engine.run(traces(-1)), []
    for place in range(longest):
        for question, trace in bench.engine.run(traces(place)).items():
            before, after = bench.right(alone[question]), bench.right(trace)
            if place < len(alone[question].steps) and before is not None and after is not None:
                step, old = trace.steps[place], alone[question].steps[place]
                swapped.append(Swap(question, step, step.text == old.text, after - before))
    return swapped


def summary(swapped: list[Swap], seed: int) -> dict[str, object]:
    """Shares of steps that change the answer, and the AUC of a signal for the steps that spoil it."""
    worth = np.array([swap.worth for swap in swapped])
    by_question: dict[str, list[int]] = {}
    for i, swap in enumerate(swapped):
        by_question.setdefault(swap.question, []).append(i)
    draws = np.random.default_rng(seed).integers(0, len(by_question), (1000, len(by_question)))
    places = list(by_question.values())
    samples = [np.concatenate([places[i] for i in draw]) for draw in draws]
    row: dict[str, object] = {
        "steps": len(swapped),
        "same text": float(np.mean([swap.same for swap in swapped])),
        "spoils": estimate(lambda at: float((worth[at] < 0).mean()), samples),
        "saves": estimate(lambda at: float((worth[at] > 0).mean()), samples),
    }
    for name, score in SIGNALS.items():
        doubt = np.array([-score(swap.step.signals) for swap in swapped])
        for what, hit in (("spoils", worth < 0), ("saves", worth > 0)):
            row[f"AUC of the {name}, {what}"] = estimate(partial(auc_at, doubt, hit), samples)
    return row


def auc_at(doubt: NDArray[np.float64], hit: NDArray[np.bool_], at: NDArray[np.int64]) -> float:
    return auc(doubt[at], hit[at])


def estimate(
    statistic: Callable[[NDArray[np.int64]], float], samples: list[NDArray[np.int64]]
) -> tuple[float, float, float]:
    """A statistic and its 95% interval over resampled questions."""
    everything = np.unique(np.concatenate(samples))
    low, high = np.nanpercentile([statistic(sample) for sample in samples], (2.5, 97.5))
    return statistic(everything), float(low), float(high)


def table(rows: dict[str, dict[str, object]]) -> Table:
    """A column a kind of swap."""
    shown = Table("", *rows)
    for name in next(iter(rows.values())):
        shown.add_row(name, *(_cell(row[name]) for row in rows.values()))
    return shown


def _cell(value: object) -> str:
    if isinstance(value, tuple):
        return "{:.3f} ({:.3f} to {:.3f})".format(*value)
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
