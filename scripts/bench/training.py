"""How fast the batched environment steps: from models, from a warm store, from a warm tree."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from envs import RoutingVectorEnv
from stepwise import load_dataset, load_pair
from stepwise.engine import Engine
from stepwise.routers import Always
from stepwise.store import SqliteStore
from stepwise.stored import StoredBackend
from stepwise.types import Problem


def measure(num_envs: int, n: int, steps: int) -> dict[str, Any]:
    """Rates of one rollout with random actions, on the nano pair.

    ``backend_share`` is the time that the models would need for the same tokens without routing
    (each at its rate when it solves the same problems alone, as many at once) over the time that
    the rollout took.
    """
    pair = load_pair("nano")
    problems = load_dataset("nano", split="train", limit=n)
    with tempfile.TemporaryDirectory() as folder:
        alone = pair.engine(store=SqliteStore(Path(folder) / "alone.db"))
        pool = (alone.models[0], alone.models[-1])
        rates = {model: _alone(alone, problems, model, num_envs) for model in pool}
        alone.run(alone.close())
        engine = pair.engine(store=SqliteStore(Path(folder) / "routed.db"))
        env = RoutingVectorEnv(engine, problems, num_envs=num_envs)
        cold = _rollout(env, steps)
        tokens = {model: _generated(engine, model) for model in pool}
        from_tree = _rollout(env, steps)
        from_store = _rollout(RoutingVectorEnv(engine, problems, num_envs=num_envs), steps)
        engine.run(engine.close())
    ideal = sum(tokens[model] / rates[model] for model in pool)
    return {
        "num_envs": num_envs,
        "problems": n,
        "steps": steps,
        **{f"tokens_per_s_{name}_alone": rate for name, rate in rates.items()},
        "rollout_tokens_per_s": sum(tokens.values()) / cold,
        "backend_share": ideal / cold,
        "steps_per_s_cold": steps / cold,
        "steps_per_s_from_store": steps / from_store,
        "steps_per_s_from_tree": steps / from_tree,
    }


def _alone(engine: Engine, problems: Sequence[Problem], model: str, concurrency: int) -> float:
    """Generated tokens per second of one model on the problems."""

    async def solve() -> None:
        async for _ in engine.solve_many(problems, Always(model), concurrency=concurrency):
            pass

    before, begun = _generated(engine, model), time.perf_counter()
    engine.run(solve())
    return (_generated(engine, model) - before) / (time.perf_counter() - begun)


def _generated(engine: Engine, model: str) -> int:
    """Tokens that the model itself has generated, none of them from the store."""
    return cast(StoredBackend, engine.backends[model]).generated


def _rollout(env: RoutingVectorEnv, steps: int) -> float:
    """Seconds for a rollout of about ``steps`` environment steps, as many in every slot, of seeded random
    actions; each slot acts as soon as it can, as in training."""
    size = (max(1, steps // env.num_envs), env.num_envs)
    actions = np.random.default_rng(0).integers(0, len(env.task.engine.models), size)
    begun = time.perf_counter()
    env.reset(seed=0)
    left = [column.tolist() for column in actions.T]
    arrivals = env.exchange({slot: column.pop() for slot, column in enumerate(left)})
    while arrivals:
        ready = [arrival.slot for arrival in arrivals if left[arrival.slot]]
        arrivals = env.exchange({slot: left[slot].pop() for slot in ready})
    return time.perf_counter() - begun
