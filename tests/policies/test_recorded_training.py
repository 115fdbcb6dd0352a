"""PPO on a recording of real models: no weights, no server, and better than chance on unseen questions."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from envs import RoutingVectorEnv
from envs.observer import Observer
from envs.recorded import recorded_world
from envs.task import Task
from policies.reference import Reference
from policies.train import train
from policies.validation import outcomes
from stepwise.routers.policy import gain_and_cost

COST_WEIGHT = 0.3
POLICY: dict[str, Any] = {
    "total_steps": 6_144, "look": "before", "width": 16,
    "ppo": {"n_steps": 64, "batch_size": 512, "n_epochs": 6, "learning_rate": 0.003, "gamma": 1.0},
}  # fmt: skip
SEEN = ["prompt_length", "position", "large_share", "large_last", "worst_accepted"]


def test_a_policy_trained_on_a_recording_beats_random_actions(tmp_path: Path) -> None:
    engine, problems, unit = recorded_world("gsm8k-qwen_coder", "test")
    observer, learnt, held = Observer.of(SEEN), problems[:150], problems[150:230]
    env = RoutingVectorEnv(
        engine, learnt, 16, "before", cost_weight=COST_WEIGHT, cost_scale=unit, observer=observer
    )
    pair: Any = SimpleNamespace(name="recorded", identity="recorded")
    artifact = train(
        env, pair, POLICY, output=tmp_path, seed=0, every=1000, reference=Reference(unit, 0.4, 150)
    )
    task = Task(engine, held, "before", COST_WEIGHT, unit, observer)
    random = np.random.default_rng(0)

    def value(act: Any) -> float:
        correct, cost = engine.run(outcomes(task.tree, held, [COST_WEIGHT], act))
        return float((correct - COST_WEIGHT * cost / unit).mean())

    def learned(seen: Any) -> list[int]:
        served = (gain_and_cost(artifact.weights, row[: len(SEEN)]) for row in seen)
        return [int(gain[0] > COST_WEIGHT * cost[0]) for gain, cost in served]

    assert value(learned) > value(lambda seen: random.integers(2, size=len(seen)).tolist()) + 0.1
