"""How fast the batched environment steps: from models, from a warm store, from a warm tree."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import cycle, takewhile
from pathlib import Path
from typing import Any

import numpy as np

from envs import RoutingVectorEnv
from scripts.program import collect_rarely
from stepwise import load_dataset, load_pair
from stepwise.engine.backend import Backend, Completion, Lost, Sampling, unaccounted
from stepwise.engine.concurrency import as_they_finish, run
from stepwise.engine.engine import Engine
from stepwise.models.pair import Pair
from stepwise.store.backend import StoredBackend
from stepwise.store.sqlite import SqliteStore
from stepwise.store.steps import Store
from stepwise.types import Problem

ROUNDS, REPEATS = 3, 5


class Counted:
    """A backend that counts the tokens it generates, and those it reads that are not in its cache."""

    def __init__(self, backend: Backend) -> None:
        self.revision, self.tokenizer = backend.revision, backend.tokenizer
        self.parameters, self.context = backend.parameters, backend.context
        self.generated = self.read = 0
        self._backend = backend

    def encode(self, text: str, *, first: bool = True) -> tuple[int, ...]:
        return self._backend.encode(text, first=first)

    async def generate(
        self, prefix: Sequence[int], sampling: Sampling, lost: Lost = unaccounted
    ) -> Completion:
        completion = await self._backend.generate(prefix, sampling, lost)
        usage = completion.usage
        self.generated += usage.completion
        self.read += usage.prompt - usage.cached
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
        stores = [SqliteStore(Path(folder) / f"{i}.db") for i in range(ROUNDS)]
        new = [generating(pair, problems, num_envs, steps, backend, store) for store in stores]
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
        "backend_shares": [figures["backend_share"] for figures in new],
        **{name: statistics.median(figures[name] for figures in new) for name in new[0]},
        "steps_per_s_from_store": steps / from_store,
        "steps_per_cpu_s_from_store": steps / own,
        "steps_per_s_from_tree": steps / statistics.median(again),
    }


def generating(
    pair: Pair, problems: Sequence[Problem], num_envs: int, steps: int, backend: str, store: Store
) -> dict[str, float]:
    """A rollout in which every chain is new, into an empty store, beside the same models unrouted.

    ``backend_share`` is the time that the models need to generate as many tokens unrouted (all at the same
    time, each with as many uninterrupted calls in flight as there are environments) over the time that the
    rollout took. ``read_per_token`` are the prompt tokens that were computed for a generated one: routing
    makes each model read what the other wrote.
    """
    engine, counts = counted(pair, store, backend)
    took, _ = _rollout(RoutingVectorEnv(engine, problems, num_envs=num_envs), steps)
    engine.run(engine.close())
    generated, read = _totals(counts)
    engine, alone = counted(pair, store, backend)  # new ones, which have no prefix in their caches
    wanted = {model: count.generated for model, count in counts.items()}
    unrouted = _unrouted(pair, alone, wanted, problems, num_envs)
    engine.run(engine.close())
    generated_alone, read_alone = _totals(alone)
    return {
        "rollout_tokens_per_s": generated / took,
        "unrouted_tokens_per_s": generated_alone / unrouted,
        "backend_share": (generated / took) / (generated_alone / unrouted),
        "read_per_token": read / generated,
        "read_per_token_unrouted": read_alone / generated_alone,
        "steps_per_s_cold": steps / took,
    }


def counted(pair: Pair, store: Store, backend: str) -> tuple[Engine, dict[str, Counted]]:
    """An engine with a store, and what its models have to do for it."""
    engine = pair.engine(backend=backend, lookahead=False)
    counts = {model: Counted(engine.backends[model]) for model in engine.models}
    engine.backends.update({model: StoredBackend(count, store) for model, count in counts.items()})
    return engine, counts


def _totals(counts: Mapping[str, Counted]) -> tuple[int, int]:
    """Tokens generated, and tokens read and not cached, by all models."""
    counted = counts.values()
    return sum(count.generated for count in counted), sum(count.read for count in counted)


def _unrouted(
    pair: Pair,
    counts: Mapping[str, Counted],
    wanted: Mapping[str, int],
    problems: Sequence[Problem],
    concurrency: int,
) -> float:
    """Seconds in which each model generates about as many tokens as wanted, in whole answers."""
    sampling = Sampling(pair.max_step_tokens * pair.max_steps)

    async def generate(model: str) -> None:
        backend = counts[model]

        async def solve(problem: Problem) -> None:
            await backend.generate(
                backend.encode(pair.prompt.replace("{question}", problem.question)), sampling
            )

        unfinished = takewhile(lambda _: backend.generated < wanted[model], cycle(problems))
        async for _ in as_they_finish(solve, unfinished, concurrency):
            pass

    async def every() -> None:
        await asyncio.gather(*map(generate, counts))

    begun = time.perf_counter()
    run(every())
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
