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
from stepwise.evaluation.rows import Row
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
    workers: list[int], chains: int, in_flight: int, latency_s: float, address: str, folder: str
) -> dict[str, Any]:
    """Chains per second by number of workers, and what a chain takes of the processors: in the driver, in its
    worker, in Ray's own processes. On a busy machine the latter still hold.

    Args:
        workers: numbers of them to try; 0 is this process without Ray.
        chains: of each worker.
        in_flight: likewise.
        folder: for the rows; those that are there are kept. "" for one that goes afterwards.
    """
    recipe, ideal = Recipe(latency_s), in_flight / (len(LINES) * latency_s)
    figures: dict[str, Any] = {"ideal_per_worker": ideal, "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as passing:
        for count in workers:
            figures |= _measured(count, chains, in_flight, recipe, address, Path(folder or passing), ideal)
    return figures


def _measured(
    count: int, chains: int, in_flight: int, recipe: Recipe, address: str, folder: Path, ideal: float
) -> dict[str, Any]:
    """The figures of one number of workers."""
    path, parts = folder / f"workers_{count}.jsonl", max(count, 1)
    if count:
        pool = Pool(recipe, ClusterSettings(address, workers=count, cpus=0.1), concurrency=in_flight)
        went = _run(OnCluster(pool), chains * count, pool.capacity, path, pool.processes())
    else:
        went = _run(recipe(), chains, in_flight, path, [])
    milliseconds = {f"{part}_ms_{count}": used for part, used in went.milliseconds.items()}
    return {
        f"workers_{count}": went.rate,
        f"share_of_ideal_{count}": went.rate / (ideal * parts),
        **milliseconds,
        f"driver_mib_by_tenths_{count}": went.mebibytes,
    }


@dataclass(frozen=True)
class Run:
    """Attributes:
    rate: chains per second.
    milliseconds: of a processor that a chain takes, by who takes them.
    mebibytes: that the driver holds at the start and after each tenth of the chains.
    """

    rate: float
    milliseconds: dict[str, float]
    mebibytes: list[float]


def _run(solver: Solver, chains: int, concurrency: int, path: Path, processes: Sequence[int]) -> Run:
    problems = [Problem(f"{i}", f"What is 1 + 2 + 4? ({i})", "7") for i in range(chains)]
    field, made, mebibytes = [Contender(Always("model"))], 0, [_mebibytes()]

    def watch(rows: Sequence[Row]) -> None:
        nonlocal made
        made += len(rows)
        if made // (chains / 10) >= len(mebibytes):
            mebibytes.append(_mebibytes())

    async def timed() -> Run:
        await evaluate(solver, problems[:8], field, path.with_suffix(".warm"), concurrency=concurrency)
        groups = {"driver": [os.getpid()], "workers": processes, "ray": _of_ray() if processes else []}
        before = {group: _seconds(ids) for group, ids in groups.items()}
        began = time.perf_counter()
        await evaluate(solver, problems, field, path, concurrency=concurrency, progress=watch)
        took = time.perf_counter() - began
        used = {group: (_seconds(ids) - before[group]) * 1e3 / chains for group, ids in groups.items()}
        return Run(chains / took, used, mebibytes)

    figures = run(timed())
    run(solver.close())
    return figures


def _mebibytes() -> float:
    """Of memory, that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


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
