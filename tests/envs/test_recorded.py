"""A recording as an environment: the same episodes as with the models that were recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

import envs
from stepwise.recording.records import Outcome
from stepwise.recording.replay import problems, replay_engine
from stepwise.types import Trace
from tests.stepwise.recording.worlds import PROBLEMS, open_recording, recording_engine

ABOUT_MODELS = {"small": 1, "large": 20}
EPISODES = 40


def test_episodes_on_a_recording_are_those_on_the_models(tmp_path: Path) -> None:
    assert envs.RoutingEnv is not None  # registered
    recording = open_recording(tmp_path)
    recording.about.update(
        models={n: {"weights": n, "parameters": p, "stop": []} for n, p in ABOUT_MODELS.items()},
        separator="\n", max_step_tokens=64, max_steps=32,
    )  # fmt: skip
    live_engine, _ = recording_engine(recording)
    live = gymnasium.make("stepwise/Routing-v0", engine=live_engine, problems=PROBLEMS, cost_weight=0.1)
    lived = [_episode(live, seed) for seed in range(EPISODES)]
    for _, right, _, trace in lived:
        recording.add(Outcome(trace.problem.id, trace.answer, right))
    replay = gymnasium.make(
        "stepwise/Routing-v0", engine=replay_engine(recording), problems=problems(recording.tree, "test"),
        cost_weight=0.1,
    )  # fmt: skip
    replayed = [_episode(replay, seed) for seed in range(EPISODES)]
    assert [episode[:3] for episode in replayed] == [episode[:3] for episode in lived]
    assert {right for _, right, _, _ in lived} == {True, False}


def _episode(env: gymnasium.Env, seed: int) -> tuple[list[list[float]], bool, float, Trace]:
    """Observations, whether the answer was right, what was paid, and the chain, under random actions."""
    random = np.random.default_rng(seed)
    observation, _ = env.reset(seed=seed)
    seen, paid, ended = [observation.tolist()], 0.0, False
    info: dict[str, Any] = {}
    while not ended:
        observation, _, ended, truncated, info = env.step(int(random.integers(2)))
        assert not truncated
        seen.append(observation.tolist())
        paid += info["cost"]
    return seen, bool(info["correct"]), paid, info["trace"]
