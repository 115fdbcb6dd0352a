"""Let models write once, and keep every step: a recording from which routers are replayed without models.

    python -m scripts.record pair=qwen_coder dataset=gsm8k split=test within=500 n=300
    python -m scripts.record pair=qwen_coder dataset=gsm8k split=test +router@routers.confidence=confidence
    python -m scripts.record output=outputs/recordings/nano      # the default: nano's test problems

Breadth first: each router, beginning with each model alone, solves all problems before the next one starts.
A run that is killed loses the steps in flight and continues where it stopped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from hydra.utils import instantiate
from omegaconf import DictConfig

from scripts.evaluate import contenders
from scripts.program import console, program
from scripts.settings import EVERYTHING, Routing, backend_of
from stepwise.engine.backend import Backend
from stepwise.engine.chain import Chain as Growing
from stepwise.engine.concurrency import run
from stepwise.engine.engine import Engine
from stepwise.errors import ConfigError
from stepwise.evaluation.run import Contender
from stepwise.models.pair import Pair
from stepwise.recording.folder import Recording
from stepwise.recording.recorder import Prompts, Recorder
from stepwise.recording.records import Chain, Outcome, Question, question_hash
from stepwise.types import Problem, Trace
from stepwise.verify import correct

RULE = ("separator", "max_step_tokens", "max_steps", "max_tokens", "sentences_after")
"""What a pair says of where steps and chains end."""
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
    routers: dict[str, Any] = field(default_factory=dict)  # each with its knob and the values of it to try
    transfer: bool = False  # let policies route a pair that they were not trained on
    concurrency: int = 48
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
    models = pair.open(backend=backend_of(cfg), models=cfg.models)
    recording, prompts = Recording(cfg.output, about(pair, cfg, models)), Prompts()
    backends = {
        name: Recorder(backend, name, prompts, recording, pair.max_step_tokens)
        for name, backend in models.items()
    }
    for problem in problems:
        recording.add(question(problem, cfg.split, pair, backends, prompts))
    engine = pair.over(backends, cost=pair.cost_model(cfg.cost))
    try:
        run(record(engine, problems, field, recording, cfg))
    finally:
        recording.close()
    console.print(f"{recording.folder}: {len(recording.tree)} steps, {len(recording.tree.chains)} chains")


def chosen(cfg: DictConfig) -> list[Problem]:
    """``n`` problems of the split: drawn, or the first of those ``within`` the first so many rows, whose
    numbers are at the end of their ids."""
    if cfg.within is None:
        return list(instantiate(cfg.dataset, split=cfg.split, limit=cfg.n))
    problems = instantiate(cfg.dataset, split=cfg.split, limit=EVERYTHING)
    return [problem for problem in problems if int(problem.id.rpartition("-")[2]) <= cfg.within][: cfg.n]


def about(pair: Pair, cfg: DictConfig, backends: Mapping[str, Backend]) -> dict[str, Any]:
    """What is recorded. Another machine or another number of threads makes no other recording.

    ``shared`` is how many tokens all prompts begin with.
    """
    shared = {
        model.name: len(backends[model.name].encode((model.prompt or pair.prompt).partition("{question}")[0]))
        for model in pair.everyone
        if model.name in backends
    }
    models = {
        model.name: {
            "weights": model.identity,
            "parameters": model.size,
            "price": msgspec.to_builtins(model.price),
            "stop": list(model.stop),
        }
        for model in pair.everyone
    }
    rule = {name: value for name in RULE if (value := getattr(pair, name)) is not None}
    what = {"dataset": cfg.dataset.name, "pair": pair.name, "models": models, "prompt": pair.prompt}
    return {**what, **rule, "shared": shared}


def question(
    problem: Problem, split: str, pair: Pair, backends: dict[str, Recorder], prompts: Prompts
) -> Question:
    """A problem as a record; its prompts are known from now on."""
    lengths = {}
    templates = {model.name: model.prompt or pair.prompt for model in pair.everyone}
    for name, backend in backends.items():
        prompt = backend.encode(templates[name].replace("{question}", problem.question))
        prompts.add(prompt, problem.id)
        lengths[name] = len(prompt)
    return Question(problem.id, split, question_hash(problem.question), lengths)


async def record(
    engine: Engine,
    problems: Sequence[Problem],
    field: Sequence[Contender],
    recording: Recording,
    cfg: DictConfig,
) -> None:
    """Every contender over all problems that it has not solved yet."""
    turns = asyncio.Semaphore(cfg.together)

    async def turn(contender: Contender) -> None:
        async with turns:
            await solve(engine, problems, contender, recording, cfg.concurrency)

    try:
        await asyncio.gather(*map(turn, field))
        if cfg.tree:
            await grow_trees(engine, problems, recording, cfg)
    finally:
        await engine.close()


async def solve(
    engine: Engine, problems: Sequence[Problem], contender: Contender, recording: Recording, concurrency: int
) -> None:
    """One contender over the problems, with a line on the console every minute."""
    name, knob = contender.key
    known = recording.tree.chains
    missing = [problem for problem in problems if (problem.id, name, knob) not in known]
    began = told = time.monotonic()
    done = 0
    async for trace in engine.solve_many(missing, contender.router, concurrency=concurrency):
        done += 1
        if trace.error is None:
            await keep(trace, contender, recording)
        else:
            console.print(f"{trace.problem.id}: {trace.error}")
        if time.monotonic() - told > REPORT or done == len(missing):
            told = time.monotonic()
            console.print(line(contender, problems, recording, done, told - began))


async def grow_trees(
    engine: Engine, problems: Sequence[Problem], recording: Recording, cfg: DictConfig
) -> None:
    """Every chain of at most ``tree`` steps of the problems that are short."""
    gate = asyncio.Semaphore(cfg.concurrency)

    def short(problem: Problem) -> bool:
        alone = [recording.tree.chains.get((problem.id, model, None)) for model in engine.models]
        return all(chain is not None and chain.steps <= cfg.tree for chain in alone)

    async def grow(chain: Growing) -> None:
        trace = chain.trace
        if trace.stop is not None:
            recording.add(Outcome(trace.problem.id, trace.answer, bool(await correct(trace))))
        elif len(trace.steps) < cfg.tree:
            await asyncio.gather(*(grow_by(chain.fork(), model) for model in engine.models))

    async def grow_by(chain: Growing, model: str) -> None:
        await engine.advance(chain, model)
        await grow(chain)

    async def tree(number: int, problem: Problem) -> None:
        async with gate:
            await grow(engine.start(problem))
            console.print(f"{time.strftime('%H:%M:%S')} tree {number}: {len(recording.tree)} steps")

    chosen = [problem for problem in problems if short(problem)][: cfg.trees]
    await asyncio.gather(*(tree(number, problem) for number, problem in enumerate(chosen, 1)))


async def keep(trace: Trace, contender: Contender, recording: Recording) -> None:
    """A whole chain's outcome."""
    name, knob = contender.key
    right, problem = bool(await correct(trace)), trace.problem.id
    tokens = {model: usage.completion + usage.discarded for model, usage in trace.usage.items()}
    recording.add(Outcome(problem, trace.answer, right))
    recording.add(Chain(problem, name, knob, str(trace.stop), trace.answer, right, len(trace.steps), tokens))


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
