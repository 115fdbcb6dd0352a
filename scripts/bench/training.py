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

ROUNDS, REPEATS = 3, 5


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
    """Rates of rollouts with random actions, on the nano pair: medians of `ROUNDS` new ones, side by side
    with the models alone, and of `REPEATS` from the store that the last of them left."""
    collect_rarely()  # as in training
    pair = load_pair("nano")
    problems = load_dataset("nano", split="train", limit=n)
    with tempfile.TemporaryDirectory() as folder:
        stores = [SqliteStore(Path(folder) / f"{i}.db") for i in range(2 * ROUNDS)]
        pairs = zip(stores[::2], stores[1::2], strict=True)
        new = [generating(pair, problems, num_envs, steps, backend, *both) for both in pairs]
        engine, _ = counted(pair, stores[-1], backend)
        envs = [RoutingVectorEnv(engine, problems, num_envs=num_envs) for _ in range(REPEATS)]
        first = [_rollout(env, steps) for env in envs]
        again = [_rollout(env, steps)[0] for env in envs]
        engine.run(engine.close())
    from_store, own = (statistics.median(seconds) for seconds in zip(*first, strict=True))
    return {
        "backend": backend,
        "num_envs": num_envs,
        "problems": n,
        "steps": steps,
        "backend_shares": [one["backend_share"] for one in new],
        **{name: statistics.median(one[name] for one in new) for name in new[0]},
        "steps_per_s_from_store": steps / from_store,
        "steps_per_cpu_s_from_store": steps / own,
        "steps_per_s_from_tree": steps / statistics.median(again),
    }


def generating(
    pair: Pair, problems: Sequence[Problem], num_envs: int, steps: int, backend: str, one: Store, two: Store
) -> dict[str, float]:
    """A rollout in which every chain is new, beside the models alone; with two empty stores.

    ``backend_share`` is the time that the models would need for the same generated tokens without routing
    (each at its rate when it solves the same problems alone, as many at once) over the time that the
    rollout took. ``computed_share`` is the same for all computed tokens: routing makes each model read what
    the other wrote, which a model alone never does.
    """
    engine, counts = counted(pair, one, backend)
    seconds = {model: _alone(engine, problems, model, num_envs) for model in counts}
    generated = {model: count.generated / seconds[model] for model, count in counts.items()}
    computed = {model: count.computed / seconds[model] for model, count in counts.items()}
    engine.run(engine.close())
    engine, counts = counted(pair, two, backend)
    took, _ = _rollout(RoutingVectorEnv(engine, problems, num_envs=num_envs), steps)
    engine.run(engine.close())
    ideal = sum(count.generated / generated[model] for model, count in counts.items())
    work = sum(count.computed / computed[model] for model, count in counts.items())
    return {
        **{f"tokens_per_s_{name}_alone": rate for name, rate in generated.items()},
        "rollout_tokens_per_s": sum(count.generated for count in counts.values()) / took,
        "backend_share": ideal / took,
        "computed_share": work / took,
        "steps_per_s_cold": steps / took,
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
