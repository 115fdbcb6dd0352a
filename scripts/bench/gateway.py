"""The gateway under load, beside the same engine in process. See docs/results.md for what is measured."""

from __future__ import annotations

import asyncio
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from scripts.bench import outage
from scripts.bench.load import Tally, load
from scripts.program import console
from stepwise import load_dataset, load_pair, load_router
from stepwise.types import Problem, Step

THRESHOLD = 0.5
MODEL = f"stepwise:threshold={THRESHOLD}"
WARM_UP = 30.0
"""Seconds of the soak after which memory should not grow."""


def measure(streams: int, n: int, soak_streams: int, soak_seconds: float, backend: str) -> dict[str, Any]:
    """All phases; each gateway but the last runs in a process of its own, its clients in this one."""
    problems = load_dataset("nano", split="test", limit=n)
    figures: dict[str, Any] = {"backend": backend, "streams": streams, "problems": n}

    def add(phase: str, measured: dict[str, Any]) -> None:
        figures.update(measured)
        console.print(f"{phase}: {measured}", soft_wrap=True)

    expected, gaps, control = _in_process(problems, streams, soak_streams, backend)
    add("in process", {"texts_that_differ_in_process": control})
    with _gateway(backend) as (url, process):
        asyncio.run(load(url, problems, expected, model=MODEL, streams=streams))  # warm
        calm = asyncio.run(load(url, problems[:16], expected, model=MODEL, streams=1))
        add("one stream", {"added_ms_median_1_stream": 1e3 * statistics.median(calm.delays)})
        add(
            "latency",
            _latency(gaps, asyncio.run(load(url, problems, expected, model=MODEL, streams=streams))),
        )
        add("clients that leave", asyncio.run(_leaving(url, problems, expected, streams)))
        add("soak", asyncio.run(_soak(url, process.pid, problems, expected, soak_streams, soak_seconds)))
    add("outage", outage.measure(problems))
    return figures


def _in_process(
    problems: Sequence[Problem], streams: int, many: int, backend: str
) -> tuple[dict[str, str], list[float], int]:
    """Without the gateway: texts by problem, seconds between the steps of a chain, and how many texts
    come out differently when ``many`` chains share the batches, which is no fault of a gateway's."""
    engine = load_pair("nano").engine(backend=backend)
    router = load_router("nano-ppo", threshold=THRESHOLD)

    async def solve(streams: int) -> tuple[dict[str, str], list[float]]:
        waiting, texts, gaps = iter(problems), dict[str, str](), list[float]()

        async def stream() -> None:
            for problem in waiting:
                chain, last = engine.solve(problem, router), None
                async for event in chain.events():
                    if isinstance(event, Step):
                        now = time.perf_counter()
                        gaps.extend([] if last is None else [now - last])
                        last = now
                texts[problem.id] = chain.trace.text if chain.trace else ""

        await asyncio.gather(*(stream() for _ in range(streams)))
        return texts, gaps

    engine.run(solve(streams))  # warm
    texts, gaps = engine.run(solve(streams))
    crowded, _ = engine.run(solve(many))
    engine.run(engine.close())
    return texts, gaps, sum(crowded[name] != text for name, text in texts.items())


def _latency(alone: Sequence[float], tally: Tally) -> dict[str, Any]:
    _refuse_errors(tally)
    return {
        "steps": len(tally.delays),
        "added_ms_median": 1e3 * statistics.median(tally.delays),
        "added_ms_p99": 1e3 * float(np.quantile(tally.delays, 0.99)),
        "step_ms_median_in_process": 1e3 * statistics.median(alone),
        "step_ms_median_gateway": 1e3 * statistics.median(tally.gaps),
        "step_ms_p99_in_process": 1e3 * float(np.quantile(alone, 0.99)),
        "step_ms_p99_gateway": 1e3 * float(np.quantile(tally.gaps, 0.99)),
        "texts_that_differ": tally.wrong,
    }


async def _soak(
    url: str, pid: int, problems: Sequence[Problem], expected: dict[str, str], streams: int, seconds: float
) -> dict[str, Any]:
    """Many streams for minutes: nothing lost, nothing mixed up, memory flat."""
    begun, memory, stopped = time.monotonic(), [], asyncio.Event()
    loading = asyncio.create_task(
        load(url, problems, expected, model=MODEL, streams=streams, stopped=stopped)
    )
    while time.monotonic() - begun < seconds:
        memory.append((time.monotonic() - begun, _resident(pid)))
        await asyncio.sleep(1.0)
    stopped.set()
    tally = await loading
    warm = next((mib for at, mib in memory if at >= min(WARM_UP, seconds / 4)), memory[-1][1])
    return {
        "soak_streams": streams,
        "soak_s": time.monotonic() - begun,
        "soak_answers": tally.answers,
        "soak_errors": len(tally.errors),
        "soak_first_error": tally.errors[0] if tally.errors else "",
        "soak_texts_that_differ": tally.wrong,
        "soak_mixed_up": tally.foreign,
        "soak_added_ms_median": 1e3 * statistics.median(tally.delays),
        "soak_added_ms_p99": 1e3 * float(np.quantile(tally.delays, 0.99)),
        "rss_mib_after_warm_up": warm,
        "rss_mib_at_the_end": memory[-1][1],
    }


async def _leaving(
    url: str, problems: Sequence[Problem], expected: dict[str, str], streams: int
) -> dict[str, Any]:
    """A fifth of the clients go away at random; then nothing must be left running."""
    tally = await load(url, problems, expected, model=MODEL, streams=streams, leaving=0.2)
    begun = time.perf_counter()
    async with aiohttp.ClientSession(url) as http:
        while await _in_flight(http):
            await asyncio.sleep(0.01)
    return {
        "left": tally.left,
        "left_errors": len(tally.errors),
        "left_texts_that_differ": tally.wrong,
        "drained_s": time.perf_counter() - begun,
    }


async def _in_flight(http: aiohttp.ClientSession) -> float:
    """Chains that run or wait. One that was cancelled runs until its backend has stopped it."""
    async with http.get("/metrics") as answer:
        text = await answer.text()
    chains = re.findall(r"^stepwise_(?:running|waiting)_chains (\S+)$", text, re.M)
    return sum(map(float, chains))


@contextmanager
def _gateway(backend: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """``stepwise serve`` on a free port."""
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w") as log:
        command = [sys.executable, "-m", "stepwise", "serve", "--port", "0", "--backend", backend]
        command += ["--concurrency", "256", "--state", f"{folder}/state.json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            line = process.stdout.readline() if process.stdout else ""
            url = re.search(r"http://127\.0\.0\.1:\d+", line)
            if url is None:
                raise RuntimeError(f"the gateway did not start: {Path(log.name).read_text()[-2000:]}")
            yield url[0], process
        finally:
            process.terminate()
            process.wait(timeout=60)


def _resident(pid: int) -> float:
    """Resident memory of a process in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def _refuse_errors(tally: Tally) -> None:
    if tally.errors:
        raise RuntimeError(f"{len(tally.errors)} requests failed, the first with {tally.errors[0]}")
