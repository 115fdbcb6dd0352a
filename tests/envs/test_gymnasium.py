"""What Gymnasium's own tools ask of an environment: copies, processes, vector infos, rendering, shaping."""

from __future__ import annotations

import copy
import pickle
import warnings
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv

from envs import RoutingEnv, RoutingVectorEnv
from stepwise import load_dataset, load_pair
from stepwise.errors import ConfigError
from stepwise.types import Trace
from tests.worlds import engine, problem

PROBLEMS = [problem(1, 9, 2), problem(3, 1), problem(8, 8, 1, 0)]


def play(env: gymnasium.Env[Any, Any], action: int = 1) -> tuple[list[float], Trace]:
    env.reset(seed=1)
    rewards, ended = [], False
    info: dict[str, Any] = {}
    while not ended:
        _, reward, ended, _, info = env.step(action)
        rewards.append(float(reward))
    return rewards, info["trace"]


def test_nano_passes_the_checker() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = RoutingEnv(load_pair("nano").engine(), load_dataset("nano", limit=2), cost_scale=1e9)
        check_env(env, skip_render_check=True)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_an_environment_with_a_factory_can_be_copied(copied: Any) -> None:
    env = RoutingEnv(engine, PROBLEMS, look="before", cost_scale=1e3)
    played = play(env)
    assert play(copied(env)) == played
    with pytest.raises(ConfigError, match="give a function that makes an engine"):
        copied(RoutingEnv(engine(), PROBLEMS))


@pytest.mark.slow
def test_environments_run_in_processes_of_their_own() -> None:
    make = partial(RoutingEnv, engine, PROBLEMS, look="before", cost_scale=1e3)
    env = AsyncVectorEnv([make, make], context="spawn")
    try:
        env.reset(seed=[1, 2])
        for _ in range(8):
            _, _, terminated, _, info = env.step(np.ones(2, int))
            if terminated.any():
                break
        slot = int(terminated.argmax())
        assert info["correct"][slot] and info["trace"][slot].stop == "answered"
    finally:
        env.close()


def test_vector_infos_say_whose_they_are() -> None:
    env = RoutingVectorEnv(engine, PROBLEMS, num_envs=3, look="before", cost_scale=1e3)
    env.reset(seed=3)
    for _ in range(10):
        _, rewards, terminated, _, info = env.step(np.ones(3, int))
        assert info["_final_obs"].tolist() == info["_final_info"].tolist() == terminated.tolist()
        assert [final is not None for final in info["final_obs"]] == terminated.tolist()
        assert info["cost"].shape == (3,) and (info["cost"] > 0).all()
        assert np.allclose(
            rewards, [f["correct"] if f else 0 for f in info["final_info"]] - 0.3 * info["cost"]
        )
    with pytest.raises(ConfigError, match="num_envs must be at least 1, not 0"):
        RoutingVectorEnv(engine, PROBLEMS, num_envs=0)


def test_a_potential_shapes_the_rewards_and_not_the_return() -> None:
    def steps(trace: Trace) -> float:
        return 2.0 + len(trace.steps)

    plain, trace = play(RoutingEnv(engine, PROBLEMS, look="before", cost_scale=1e3))
    shaped, same = play(RoutingEnv(engine, PROBLEMS, look="before", cost_scale=1e3, potential=steps))
    assert trace == same and sum(shaped) == pytest.approx(sum(plain) - 2.0)
    assert shaped[0] == pytest.approx(plain[0] + 1.0)
    batch = RoutingVectorEnv(engine, PROBLEMS, num_envs=1, look="before", cost_scale=1e3, potential=steps)
    batch.reset(seed=0, options={"problem": 0})
    assert batch.step(np.ones(1, int))[1][0] > 0.5


def test_the_render_mode_is_honoured() -> None:
    with pytest.raises(ConfigError, match="render_mode must be 'ansi' or None, not 'human'"):
        RoutingEnv(engine, PROBLEMS, render_mode="human")
    env = RoutingEnv(engine, PROBLEMS)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="render_mode"):
        assert env.render() is None


@pytest.mark.slow
def test_rllib_trains_on_it() -> None:
    ppo = pytest.importorskip("ray.rllib.algorithms.ppo", exc_type=ImportError)
    ray = pytest.importorskip("ray")
    registry = pytest.importorskip("ray.tune.registry")
    registry.register_env("routing", lambda settings: RoutingEnv(engine, PROBLEMS, cost_scale=1e3))
    ray.init(include_dashboard=False, num_cpus=1, object_store_memory=80 * 2**20, log_to_driver=False)
    try:
        settings = ppo.PPOConfig().environment("routing").env_runners(num_env_runners=0)
        algorithm = settings.training(train_batch_size=128, minibatch_size=64, num_epochs=1).build_algo()
        assert -1.0 <= algorithm.train()["env_runners"]["episode_return_mean"] <= 1.0
        algorithm.stop()
    finally:
        ray.shutdown()
