"""A recording as an environment: the same episodes as with the models that were recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import envs
from envs.observer import Observer
from stepwise.errors import ConfigError, RouterError
from stepwise.recording.records import Outcome
from stepwise.recording.replay import NOBODY, problems, replay_engine
from stepwise.types import Trace
from tests.stepwise.evaluation.test_replayed import record
from tests.stepwise.recording.worlds import PROBLEMS, open_recording, recording_engine
from tests.worlds import engine, problem

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
        "stepwise/Routing-v0", engine=replay_engine(recording), problems=problems(recording, "test"),
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


def test_a_recording_is_an_environment_by_its_name() -> None:
    env = gymnasium.make("stepwise/Routing-v0", recording="gsm8k-qwen_coder", split="test", cost_weight=0.3)
    ends = [_episode(env, seed) for seed in range(20)]
    assert {right for _, right, _, _ in ends} == {True, False}
    assert all(trace.stop != "error" for *_, trace in ends)


def test_what_is_not_recorded_is_wrong_and_costs_a_whole_chain() -> None:
    env = gymnasium.make("stepwise/Routing-v0", recording="gsm8k-qwen_coder", split="test", cost_weight=0.0)
    left = [end for end in (_episode(env, seed) for seed in range(60)) if end[3].answer == NOBODY]
    assert left and not any(right for _, right, _, _ in left)
    assert all(trace.usage[trace.steps[-1].model].discarded > 20 for *_, trace in left)


def test_an_agent_that_reads_questions_needs_the_data_set(tmp_path: Path) -> None:
    record(tmp_path)
    observer = Observer.of(["signals", "question"])
    with pytest.raises(RouterError, match="holds no questions"):
        envs.RoutingEnv(recording=str(tmp_path), split="test", observer=observer).reset(seed=0)
    env = envs.RoutingEnv(recording=str(tmp_path), split="test", observer=observer, problems=PROBLEMS)
    env.reset(options={"problem": 3})
    assert env.trace.problem.question == PROBLEMS[3].question


@pytest.mark.parametrize("arguments", [{}, {"recording": "no-such"}])
def test_what_is_neither_models_nor_a_recording_is_refused(arguments: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="recording"):
        envs.RoutingEnv(**arguments)  # type: ignore[arg-type]


def test_reading_is_an_action_that_can_be_taken_once_a_draft() -> None:
    env = envs.RoutingEnv(
        engine(), [problem(1, 9)], verify=True, cost_weight=0.1, observer=Observer.of(["signals", "verified"])
    )
    first, info = env.reset(seed=0)
    assert env.action_space.n == 3 and info["action_mask"].tolist() == [True] * 3  # type: ignore[attr-defined]
    read, reward, ended, _, info = env.step(2)
    assert info["action_mask"].tolist() == [True, True, False] and not ended and reward < 0
    names = env.task.observer.features
    assert first[names.index("read")] == 0.0 and read[names.index("read")] == 1.0
    _, _, _, _, info = env.step(0)
    assert info["action_mask"].tolist() == [True] * 3
    with pytest.raises(ConfigError, match="verify needs look='after_draft'"):
        envs.RoutingEnv(engine(), [problem(1, 9)], look="before", verify=True)
