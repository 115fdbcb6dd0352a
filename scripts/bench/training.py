"""How fast the batched environment steps: from models, from a warm store, from a warm tree."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from envs import RoutingVectorEnv
from scripts import collect_rarely
from stepwise import load_dataset, load_pair
from stepwise.backends.base import Backend, Completion, Sampling
from stepwise.engine import Engine
from stepwise.pair import Pair
from stepwise.routers import Always
from stepwise.store import SqliteStore, Store
from stepwise.stored import StoredBackend
from stepwise.types import Problem

REPEATS = 5


class Counted:
    """A backend that counts the tokens it generates, and those it computes: read and not cached, too."""

    def __init__(self, backend: Backend) -> None:
        self.revision, self.tokenizer = backend.revision, backend.tokenizer
        self.parameters, self.context = backend.parameters, backend.context
        self.generated = self.computed = 0
        self._backend = backend

    def encode(self, text: str, *, first: bool = True) -> tuple[int, ...]:
        return self._backend.encode(text, first=first)

    async def generate(self, prefix: Sequence[int], sampling: Sampling) -> Completion:
        completion = await self._backend.generate(prefix, sampling)
        usage = completion.usage
        self.generated += usage.completion
        self.computed += usage.completion + usage.prompt - usage.cached
        return completion

    async def close(self) -> None:
        await self._backend.close()


def measure(num_envs: int, n: int, steps: int, backend: str) -> dict[str, Any]:
    """Rates of one rollout with random actions, on the nano pair.

    ``backend_share`` is the time that the models would need for the same generated tokens without routing
    (each at its rate when it solves the same problems alone, as many at once) over the time that the
    rollout took. ``computed_share`` is the same for all computed tokens: routing makes each model read what
    the other wrote, which a model alone never does. ``backend_share_bound`` is what the first would be if the
    second were 1.
    """
    collect_rarely()  # as in training
    pair = load_pair("nano")
    problems = load_dataset("nano", split="train", limit=n)
    with tempfile.TemporaryDirectory() as folder:
        alone, counts = counted(pair, SqliteStore(Path(folder) / "alone.db"), backend)
        seconds = {model: _alone(alone, problems, model, num_envs) for model in counts}
        generated = {model: one.generated / seconds[model] for model, one in counts.items()}
        computed = {model: one.computed / seconds[model] for model, one in counts.items()}
        alone.run(alone.close())
        engine, counts = counted(pair, SqliteStore(Path(folder) / "routed.db"), backend)
        env = RoutingVectorEnv(engine, problems, num_envs=num_envs)
        cold, _ = _rollout(env, steps)
        tokens = sum(one.generated for one in counts.values())
        ideal = sum(one.generated / generated[model] for model, one in counts.items())
        work = sum(one.computed / computed[model] for model, one in counts.items())
        from_tree, _ = _rollout(env, steps)
        first = [
            _rollout(RoutingVectorEnv(engine, problems, num_envs=num_envs), steps) for _ in range(REPEATS)
        ]
        from_store, own = (statistics.median(seconds) for seconds in zip(*first, strict=True))
        engine.run(engine.close())
    return {
        "backend": backend,
        "num_envs": num_envs,
        "problems": n,
        "steps": steps,
        **{f"tokens_per_s_{name}_alone": rate for name, rate in generated.items()},
        "rollout_tokens_per_s": tokens / cold,
        "backend_share": ideal / cold,
        "computed_share": work / cold,
        "backend_share_bound": ideal / work,
        "steps_per_s_cold": steps / cold,
        "steps_per_s_from_store": steps / from_store,
        "steps_per_cpu_s_from_store": steps / own,
        "steps_per_s_from_tree": steps / from_tree,
    }


def counted(pair: Pair, store: Store, backend: str) -> tuple[Engine, dict[str, Counted]]:
    """An engine with a store, and what its models have to do for it."""
    engine = pair.engine(backend=backend, run_on=False)
    counts = {model: Counted(engine.backends[model]) for model in engine.models}
    engine.backends.update({model: StoredBackend(one, store) for model, one in counts.items()})
    return engine, counts


def _alone(engine: Engine, problems: Sequence[Problem], model: str, concurrency: int) -> float:
    """Seconds of one model alone for the problems."""

    async def solve() -> None:
        async for _ in engine.solve_many(problems, Always(model), concurrency=concurrency):
            pass

    begun = time.perf_counter()
    engine.run(solve())
    return time.perf_counter() - begun


def _rollout(env: RoutingVectorEnv, steps: int) -> tuple[float, float]:
    """Seconds, and this process's CPU seconds, for a rollout of about ``steps`` environment steps, as many in
    every slot, of seeded random actions; each slot acts as soon as it can, as in training."""
    size = (max(1, steps // env.num_envs), env.num_envs)
    actions = np.random.default_rng(0).integers(0, len(env.task.engine.models), size)
    begun, own = time.perf_counter(), time.process_time()
    env.reset(seed=0)
    left = [column.tolist() for column in actions.T]
    arrivals = env.exchange({slot: column.pop() for slot, column in enumerate(left)})
    while arrivals:
        ready = [arrival.slot for arrival in arrivals if left[arrival.slot]]
        arrivals = env.exchange({slot: left[slot].pop() for slot in ready})
    return time.perf_counter() - begun, time.process_time() - own
