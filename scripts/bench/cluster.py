"""Chains per second on a Ray cluster, by number of workers, with models that take a given time a step.

The models only wait, so that whatever does not scale is the driver, the workers or what is between them.
"""

from __future__ import annotations

import asyncio
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepwise.cluster.pool import Pool
from stepwise.cluster.settings import ClusterSettings
from stepwise.engine.backend import Completion, Lost, Sampling, unaccounted
from stepwise.engine.concurrency import run
from stepwise.engine.cost import Tokens
from stepwise.engine.engine import Engine
from stepwise.engine.stop_rules import StepRule
from stepwise.evaluation.run import evaluate
from stepwise.evaluation.solver import Contender, Here, OnCluster, Solver
from stepwise.routers import Always
from stepwise.types import Finish, Problem, Signals, Usage

LINES = ("1 + 2 = 3.\n", "3 + 4 = 7.\n", "The answer is 7.")


class Model:
    """A backend that takes ``latency_s`` a step, and next to no work; its tokens are characters."""

    revision = tokenizer = "characters"
    parameters, context = 1, 10_000

    def __init__(self, latency_s: float) -> None:
        self._latency_s = latency_s

    def encode(self, text: str, *, first: bool = True) -> tuple[int, ...]:
        return tuple(map(ord, text))

    async def generate(
        self, prefix: Sequence[int], sampling: Sampling, lost: Lost = unaccounted
    ) -> Completion:
        await asyncio.sleep(self._latency_s)
        step = sum(token == 10 for token in prefix) - 1  # the question ends with a line break
        usage = Usage(len(prefix), 0, len(LINES[step]))
        finish: Finish = "end" if step == len(LINES) - 1 else "stop"
        return Completion(LINES[step], self.encode(LINES[step]), usage, Signals(-0.1, -0.2), finish)

    async def close(self) -> None: ...


@dataclass(frozen=True)
class Recipe:
    """An engine over that model."""

    latency_s: float

    def __call__(self) -> Here:
        model = Model(self.latency_s)
        return Here(Engine({"model": model}, prompt="{question}\n", rule=StepRule("\n"), cost=Tokens()))


def measure(
    workers: list[int], chains: int, in_flight: int, latency_s: float, address: str
) -> dict[str, Any]:
    """Chains per second by number of workers, and what a chain takes that no model needs.

    Args:
        chains: of each worker.
        in_flight: likewise.
    """
    recipe, ideal = Recipe(latency_s), in_flight / (len(LINES) * latency_s)
    figures: dict[str, Any] = {"ideal_per_worker": ideal}
    figures["here"] = _rate(recipe(), chains, in_flight)
    for count in workers:
        settings = ClusterSettings(address, workers=count, cpus=0.1)
        pool = Pool(recipe, settings, concurrency=in_flight)
        figures[f"workers_{count}"] = rate = _rate(OnCluster(pool), chains * count, pool.capacity)
        figures[f"share_of_ideal_{count}"] = rate / (ideal * count)
    figures["driver_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return figures


def _rate(solver: Solver, chains: int, concurrency: int) -> float:
    problems = [Problem(f"{i}", f"What is 1 + 2 + 4? ({i})", "7") for i in range(chains)]
    field = [Contender(Always("model"))]
    with tempfile.TemporaryDirectory() as folder:

        async def timed() -> float:
            warm = evaluate(solver, problems[:8], field, Path(folder) / "warm.jsonl", concurrency=concurrency)
            await warm
            began = time.perf_counter()
            await evaluate(solver, problems, field, Path(folder) / "rows.jsonl", concurrency=concurrency)
            return chains / (time.perf_counter() - began)

        rate = run(timed())
    run(solver.close())
    return rate
