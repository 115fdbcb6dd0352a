"""Chains per second on a Ray cluster, by number of workers, with models that take a given time a step.

The models only wait, so that whatever does not scale is the driver, the workers or what is between them.
Linux only: it reads /proc.
"""

from __future__ import annotations

import asyncio
import os
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
    """Chains per second by number of workers, and what a chain takes of the processors: in the driver, in its
    worker, in Ray's own processes. On a busy machine the latter still hold.

    Args:
        chains: of each worker.
        in_flight: likewise.
    """
    recipe, ideal = Recipe(latency_s), in_flight / (len(LINES) * latency_s)
    figures: dict[str, Any] = {"ideal_per_worker": ideal, "load": os.getloadavg()[0]}
    figures["here"] = _run(recipe(), chains, in_flight, []).rate
    for count in workers:
        settings = ClusterSettings(address, workers=count, cpus=0.1)
        pool = Pool(recipe, settings, concurrency=in_flight)
        went = _run(OnCluster(pool), chains * count, pool.capacity, pool.processes())
        figures[f"workers_{count}"] = went.rate
        figures[f"share_of_ideal_{count}"] = went.rate / (ideal * count)
        for part, milliseconds in went.milliseconds.items():
            figures[f"{part}_ms_{count}"] = milliseconds
        figures[f"driver_bytes_a_chain_{count}"] = went.bytes
    figures["driver_mib"] = resident() / 2**20
    return figures


@dataclass(frozen=True)
class Run:
    """Attributes:
    rate: chains per second.
    milliseconds: of a processor that a chain takes, by who takes them.
    bytes: that the driver keeps of a chain.
    """

    rate: float
    milliseconds: dict[str, float]
    bytes: float


def _run(solver: Solver, chains: int, concurrency: int, processes: Sequence[int]) -> Run:
    problems = [Problem(f"{i}", f"What is 1 + 2 + 4? ({i})", "7") for i in range(chains)]
    field = [Contender(Always("model"))]
    with tempfile.TemporaryDirectory() as folder:

        async def timed() -> Run:
            warm = evaluate(solver, problems[:8], field, Path(folder) / "warm.jsonl", concurrency=concurrency)
            await warm
            groups = {"driver": [os.getpid()], "workers": processes, "ray": _of_ray()}
            before, held, began = (
                {g: _seconds(ids) for g, ids in groups.items()},
                resident(),
                time.perf_counter(),
            )
            rows = await evaluate(
                solver, problems, field, Path(folder) / "rows.jsonl", concurrency=concurrency
            )
            took = time.perf_counter() - began
            used = {g: (_seconds(ids) - before[g]) * 1e3 / chains for g, ids in groups.items()}
            return Run(len(rows) / took, used, (resident() - held) / chains)

        figures = run(timed())
    run(solver.close())
    return figures


def resident() -> int:
    """Bytes of memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _seconds(processes: Sequence[int]) -> float:
    """Of processors, that processes have used."""
    used = 0
    for process in processes:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        used += int(fields[11]) + int(fields[12])
    return used / os.sysconf("SC_CLK_TCK")


def _of_ray() -> list[int]:
    """Ray's own servers on this machine."""
    names = {file.parent: file.read_text().strip() for file in Path("/proc").glob("[0-9]*/comm")}
    return [int(folder.name) for folder, name in names.items() if name in ("raylet", "gcs_server")]
