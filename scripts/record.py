"""Let models write once, and keep every step: a recording from which routers are replayed without models.

    python -m scripts.record pair=qwen_coder dataset=gsm8k split=test within=500 n=300
    python -m scripts.record pair=qwen_coder dataset=gsm8k split=test +router@routers.confidence=confidence
    python -m scripts.record output=outputs/recordings/nano      # the default: nano's test problems
    python -m scripts.record cluster=ray                         # written by workers on many machines

Breadth first: each router, beginning with each model alone, solves all problems before the next one starts.
A run that is killed loses the steps in flight and continues where it stopped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from scripts.evaluate import contenders
from scripts.program import console, program
from scripts.settings import Routing
from scripts.writing import Writer, models_of, writer_of
from stepwise.data import EVERYTHING
from stepwise.engine.concurrency import as_they_finish, run
from stepwise.errors import ConfigError
from stepwise.evaluation.run import Contender
from stepwise.models.pair import Pair
from stepwise.recording.folder import Recording
from stepwise.recording.tree import Tree
from stepwise.types import Problem

REPORT = 60.0
"""Seconds between two lines of progress."""


@dataclass
class Record(Routing):
    """The settings of a recording."""

    output: str = "outputs/recordings/${pair.name}-${dataset.name}"
    split: str = "test"
    within: int | None = None  # only the first so many rows of the file are considered, in their order
    n: int = 300
    artifact: str | None = None  # or policy=FOLDER: the policy that `ppo` is; null: the one that ships
    only: list[str] | None = None  # of the routers, beside small and large
    routers: dict[str, Any] = field(default_factory=dict)  # each with its knob and the values of it to try
    transfer: bool = False  # let policies route a pair that they were not trained on
    concurrency: int = 48  # chains in flight, on every worker of a cluster
    cluster: Any = None
    together: int = 1  # routers at a time
    tree: int = 0  # steps: whole trees, after the routers, of problems that no model alone takes more for
    trees: int = 100  # problems at most


@program("record", Record)
def main(cfg: DictConfig) -> None:
    pair = instantiate(cfg.pair)
    if pair.judge is not None:
        raise ConfigError(f"pair {pair.name!r} has a judge, and verdicts are not recorded.")
    field = contenders(cfg, pair)
    problems = chosen(cfg)
    tree = write(cfg, pair, field, problems)
    console.print(f"{cfg.output}: {len(tree)} steps, {len(tree.chains)} chains")


def write(cfg: DictConfig, pair: Pair, field: Sequence[Contender], problems: Sequence[Problem]) -> Tree:
    """Record every contender over the problems; everything that the recording holds then.

    Raises:
        ConfigError: if the folder holds a recording of something else, or models or cluster are unusable.
    """
    models, concurrency = models_of(cfg, pair)
    try:
        with closing(Recording(cfg.output, models.about)) as recording:
            if recording.tree.chains:
                console.print(found(cfg.output, recording, field, problems))
            writer = writer_of(models, recording, problems)
            run(record(writer, problems, field, recording, cfg, concurrency))
            return recording.tree
    finally:
        run(models.close())


def found(folder: str, recording: Recording, field: Sequence[Contender], problems: Sequence[Problem]) -> str:
    """What a recording that goes on has, in a sentence."""
    wanted = {(problem.id, *contender.key) for problem in problems for contender in field}
    left = len(wanted - recording.tree.chains.keys())
    return (
        f"{folder}: {len(recording.tree.chains):,} chains are recorded; of the {len(wanted):,} asked for, "
        + (f"{left:,} are left." if left else "none is left.")
    )


def chosen(cfg: DictConfig) -> list[Problem]:
    """``n`` problems of the split: drawn, or the first of those ``within`` the first so many rows, whose
    numbers are at the end of their ids."""
    if cfg.within is None:
        return list(instantiate(cfg.dataset, split=cfg.split, limit=cfg.n))
    problems = instantiate(cfg.dataset, split=cfg.split, limit=EVERYTHING)
    return [problem for problem in problems if int(problem.id.rpartition("-")[2]) <= cfg.within][: cfg.n]


async def record(
    writer: Writer,
    problems: Sequence[Problem],
    field: Sequence[Contender],
    recording: Recording,
    cfg: DictConfig,
    concurrency: int,
) -> None:
    """Every contender over all problems that it has not solved yet."""
    turns = asyncio.Semaphore(cfg.together)

    async def turn(contender: Contender) -> None:
        async with turns:
            await solve(writer, problems, contender, recording, concurrency)

    await asyncio.gather(*map(turn, field))
    if cfg.tree:
        models = [model for model in recording.about["models"] if model in recording.about["shared"]]
        await grow_trees(writer, problems, models, recording, cfg, concurrency)


async def solve(
    writer: Writer, problems: Sequence[Problem], contender: Contender, recording: Recording, concurrency: int
) -> None:
    """One contender over the problems, with a line on the console every minute."""
    name, knob = contender.key
    known = recording.tree.chains
    missing = [problem for problem in problems if (problem.id, name, knob) not in known]
    began = reported = time.monotonic()
    done = 0

    async def attempt(problem: Problem) -> str:
        error = await writer.solve(problem, contender)
        return f"{problem.id}: {error}" if error else ""

    async for failure in as_they_finish(attempt, missing, concurrency):
        done += 1
        if failure:
            console.print(failure)
        if time.monotonic() - reported > REPORT or done == len(missing):
            reported = time.monotonic()
            console.print(line(contender, problems, recording, done, reported - began))


async def grow_trees(
    writer: Writer,
    problems: Sequence[Problem],
    models: Sequence[str],
    recording: Recording,
    cfg: DictConfig,
    concurrency: int,
) -> None:
    """Every chain of at most ``tree`` steps of the problems that are short."""

    def short(problem: Problem) -> bool:
        alone = [recording.tree.chains.get((problem.id, model, None)) for model in models]
        return all(chain is not None and chain.steps <= cfg.tree for chain in alone)

    async def tree(numbered: tuple[int, Problem]) -> None:
        number, problem = numbered
        await writer.grow(problem, cfg.tree)
        console.print(f"{time.strftime('%H:%M:%S')} tree {number}: {len(recording.tree)} steps")

    chosen = [problem for problem in problems if short(problem)][: cfg.trees]
    async for _ in as_they_finish(tree, enumerate(chosen, 1), concurrency):
        pass


def line(
    contender: Contender, problems: Sequence[Problem], recording: Recording, done: int, seconds: float
) -> str:
    """How far a contender is, and how often it was right."""
    name, knob = contender.key
    solved = [chain for p in problems if (chain := recording.tree.chains.get((p.id, name, knob)))]
    right = sum(chain.correct for chain in solved)
    tokens = sum(sum(chain.tokens.values()) for chain in solved[-done:])
    at = "" if knob is None else f" at {knob}"
    return (
        f"{time.strftime('%H:%M:%S')} {name}{at}: {len(solved)} of {len(problems)} problems, {right} right, "
        f"{len(recording.tree)} steps, {tokens / max(seconds, 1e-9):.0f} tokens/s"
    )


if __name__ == "__main__":
    main()
