"""What the engine itself costs: processor time per step and per decision, without any model."""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stepwise import load_dataset, load_pair, load_router
from stepwise.engine.backend import Completion, Lost, Sampling, unaccounted
from stepwise.engine.cost import Flops
from stepwise.engine.engine import Engine
from stepwise.engine.stop_rules import StepRule
from stepwise.routers import Confidence, ThresholdRouter
from stepwise.store.sqlite import SqliteStore
from stepwise.types import Router, Signals, Trace, Usage

LENGTHS = (10, 100, 1000)
TOKENS = 10
CHAINS = 20


class Instant:
    """A backend that answers at once: ten tokens that it made beforehand."""

    revision = tokenizer = "instant"
    parameters = 1
    context = 10**9

    def __init__(self, length: int) -> None:
        self.steps = [self._completion(i, i == length - 1) for i in range(length)]
        self.spent = 0.0

    @staticmethod
    def _completion(i: int, last: bool) -> Completion:
        ids = tuple(range(i * TOKENS, (i + 1) * TOKENS))
        usage = Usage(10 + i * TOKENS, i * TOKENS, TOKENS)
        signals = Signals(-0.1, -0.5, 0.1, 0.5, TOKENS)
        return Completion(f"step {i}\n", ids, usage, signals, "end" if last else "stop")

    def encode(self, text: str, *, first: bool = True) -> tuple[int, ...]:
        return tuple(range(TOKENS))

    async def generate(
        self, prefix: Sequence[int], sampling: Sampling, lost: Lost = unaccounted
    ) -> Completion:
        return self.steps[len(prefix) // TOKENS - 1]

    async def close(self) -> None:
        pass


def microseconds_per_step(length: int) -> float:
    """Processor time per step of chains of ``length`` steps, drafts and a threshold rule included."""
    backend = Instant(length)
    engine = Engine(
        {"small": backend, "large": backend},
        prompt="{question}",
        rule=StepRule("\n", 64, length + 1),
        cost=Flops({"small": 1, "large": 15}),
    )
    # A draft in four is rejected.
    scores = [0.6 if i % 4 == 0 else 0.4 for i in range(length)]
    router = ThresholdRouter(_Scripted(scores), 0.5, "scripted")

    async def chains() -> None:
        for _ in range(CHAINS):
            trace = await engine.solve("a question", router)
            if len(trace.steps) != length:
                raise RuntimeError(f"a chain of {length} steps ended after {len(trace.steps)}")

    asyncio.run(chains())
    began = time.process_time()
    asyncio.run(chains())
    return (time.process_time() - began) / (CHAINS * length) * 1e6


class _Scripted(Confidence):
    """Scores by position, so that the measured time is the engine's."""

    def __init__(self, scores: Sequence[float]) -> None:
        super().__init__()
        object.__setattr__(self, "scores", scores)

    def score(self, trace: Trace) -> float:
        scores: Sequence[float] = self.scores  # type: ignore[attr-defined]
        return scores[len(trace.steps)]


def microseconds_per_decision(n: int = 40, repeats: int = 20) -> float:
    """Median time of the trained policy's decision, features included, over nano's chains."""
    router = load_router("nano-ppo", budget=0.4)
    engine = load_pair("nano").engine()
    seen: list[Trace] = []

    async def walk() -> None:
        for problem in load_dataset("nano", split="validation", limit=n):
            chain = engine.start(problem)
            while chain.trace.stop is None:
                await engine.look(chain, router.look)
                seen.append(chain.trace)
                await engine.advance(chain, router.decide(chain.trace).model)

    engine.run(walk())
    engine.run(engine.close())
    return statistics.median(_seconds(router, trace) for trace in seen * repeats) * 1e6


def _seconds(router: Router, trace: Trace) -> float:
    began = time.perf_counter()
    router.decide(trace)
    return time.perf_counter() - began


def store_reads_per_second(entries: int = 50_000, reads: int = 40_000) -> float:
    """Of completions of thirty tokens, in random order."""
    completion = Completion("a step\n" * 12, tuple(range(30)), Usage(90, 60, 30), Signals(-0.1, -0.2), "stop")
    draw = random.Random(0)
    keys = [draw.randbytes(16) for _ in range(entries)]
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder) / "steps.db")
        for key in keys:
            store.put(key, completion)
        chosen = [draw.choice(keys) for _ in range(reads)]
        began = time.perf_counter()
        for key in chosen:
            store.get(key)
        rate = reads / (time.perf_counter() - began)
        store.close()
    return rate


def measure() -> dict[str, Any]:
    per_step = {length: microseconds_per_step(length) for length in LENGTHS}
    return {
        "us_per_step": max(per_step.values()),
        **{f"us_per_step_{length}": value for length, value in per_step.items()},
        "us_per_decision": microseconds_per_decision(),
        "store_reads_per_s": store_reads_per_second(),
    }
