"""What a sweep over thresholds generates when every completion is kept."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, cast

import numpy as np

from stepwise import load_dataset, load_pair, load_router
from stepwise.engine.engine import Engine
from stepwise.store.backend import StoredBackend
from stepwise.store.sqlite import SqliteStore

THRESHOLDS = 21


def measure(n: int) -> dict[str, Any]:
    """Generated tokens of a sweep of the trained policy over those of one pass (the mean over the
    thresholds of what a pass without a store would generate), and of the same sweep once more."""
    policy = load_router("nano-ppo", threshold=0.0)
    problems = load_dataset("nano", split="validation", limit=n)
    values = [0.0, *np.geomspace(0.05, 20.0, THRESHOLDS - 1)]
    passes: list[int] = []

    async def sweep(engine: Engine) -> None:
        for value in values:
            traces = engine.solve_many(problems, policy.at(float(value)), concurrency=128)
            passes.append(
                sum([sum(u.completion + u.discarded for u in t.usage.values()) async for t in traces])
            )

    with tempfile.TemporaryDirectory() as folder:
        generated = []
        for _ in range(2):
            engine = load_pair("nano").engine(store=SqliteStore(Path(folder) / "steps.db"))
            engine.run(sweep(engine))
            generated.append(sum(cast(StoredBackend, b).generated for b in engine.backends.values()))
            engine.run(engine.close())
    return {
        "sweep_thresholds": len(values),
        "sweep_problems": n,
        "sweep_ratio": generated[0] / float(np.mean(passes)),
        "sweep_repeated_tokens": generated[1],
    }
