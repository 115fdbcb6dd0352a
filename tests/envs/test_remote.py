"""Slots in other processes: what they go through is what it is in one."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from envs import RoutingVectorEnv
from envs.episode import Observation
from envs.on_ray import parts_on
from envs.remote import ATTEMPTS, CostWeight, Lost, Moved, RemoteVectorEnv, Slots
from envs.vector import Slot
from policies.network import GainCostPolicy
from policies.rollouts import RoutingPPO
from policies.sb3_env import SB3Routing
from stepwise.cluster.settings import ClusterSettings
from stepwise.errors import BackendError, ConfigError
from tests.worlds import engine, problem

PROBLEMS = [problem(a, b, c) for a in (1, 7) for b in (2, 8, 9) for c in (0, 3, 6)]
SLOTS, STEPS = 6, 24
TASK: dict[str, Any] = {"cost_weight": (0.03, 3.0), "cost_scale": 1e3}


def make(count: int) -> RoutingVectorEnv:
    return RoutingVectorEnv(engine(), PROBLEMS, num_envs=count, **TASK)


class ThreadPart:
    """Slots in a thread, which are lost when ``fails`` says so."""

    def __init__(self, fails: Callable[[], bool] = lambda: False) -> None:
        self._fails, self._slots = fails, Slots(make)
        self._thread = ThreadPoolExecutor(1)

    def restore(self, slots: Sequence[Slot], cost_weight: CostWeight) -> Future[Observation]:
        self._slots = Slots(make)
        return self._thread.submit(self._or_lost, self._slots.restore, slots, cost_weight)

    def exchange(self, actions: Mapping[int, int], cost_weight: CostWeight) -> Future[list[Moved]]:
        return self._thread.submit(self._or_lost, self._slots.exchange, actions, cost_weight)

    def result(self, future: Future[Any]) -> Any:
        return future.result()

    def close(self) -> None:
        self._thread.shutdown()

    def _or_lost(self, work: Callable[..., Any], *arguments: Any) -> Any:
        done = work(*arguments)
        if self._fails():
            raise Lost("killed")
        return done


def remote(parts: Sequence[Any]) -> RemoteVectorEnv:
    return RemoteVectorEnv(parts, engine(), PROBLEMS, num_envs=SLOTS, **TASK)


def learned(env: RoutingVectorEnv, rollouts: int = 2) -> RoutingPPO:
    batch = SB3Routing(env)
    model = RoutingPPO(GainCostPolicy, batch, n_steps=STEPS, batch_size=16, n_epochs=1, seed=0, device="cpu")
    return model.learn(STEPS * SLOTS * rollouts)


def same(one: RoutingPPO, two: RoutingPPO) -> bool:
    names = ("observations", "actions", "rewards", "values", "log_probs", "advantages")
    buffers = [[getattr(model.rollout_buffer, name) for name in names] for model in (one, two)]
    weights = zip(one.policy.parameters(), two.policy.parameters(), strict=True)
    return all(np.array_equal(a, b) for a, b in zip(*buffers, strict=True)) and all(
        torch.equal(a, b) for a, b in weights
    )


@pytest.fixture(scope="module")
def here() -> RoutingPPO:
    """What one process learns."""
    return learned(make(SLOTS))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_any_number_of_parts_learns_what_one_process_learns(count: int, here: RoutingPPO) -> None:
    env = remote([ThreadPart() for _ in range(count)])
    assert same(learned(env), here)
    env.close()


def test_parts_that_are_lost_change_nothing(here: RoutingPPO) -> None:
    draw = random.Random(0)
    env = remote([ThreadPart(lambda: draw.random() < 0.2) for _ in range(2)])
    assert same(learned(env), here) and env.lost > 5
    env.close()


def test_a_part_that_is_always_lost_ends_the_training() -> None:
    env = remote([ThreadPart(lambda: True)])
    with pytest.raises(BackendError, match=f"went down {ATTEMPTS} times in a row: killed"):
        env.reset(seed=0)
    env.close()


def test_a_state_goes_on_in_one_process_and_in_parts_alike() -> None:
    env = remote([ThreadPart(), ThreadPart()])
    env.reset(seed=3)
    for _ in range(7):
        env.step(np.ones(SLOTS, int))
    slots = env.state()
    went_on: list[Any] = [env.step(np.zeros(SLOTS, int)) for _ in range(5)]
    for other in (make(SLOTS), remote([ThreadPart() for _ in range(3)])):
        other.restore(slots)
        for expected in went_on:
            came: Any = other.step(np.zeros(SLOTS, int))
            assert all(np.array_equal(a, b) for a, b in zip(came[:4], expected[:4], strict=True))
            assert np.array_equal(came[4]["action_mask"], expected[4]["action_mask"])
        other.close()
    env.close()


def test_a_new_cost_weight_holds_in_all_parts_for_the_episodes_that_begin_later() -> None:
    env = remote([ThreadPart(), ThreadPart()])
    env.reset(seed=0)
    env.task.cost_weight = 9.0
    for _ in range(30):
        env.step(np.ones(SLOTS, int))
    assert [slot.start["cost_weight"] for slot in env.state()] == [9.0] * SLOTS
    env.close()


def test_misuse_is_refused_as_in_one_process() -> None:
    with pytest.raises(ConfigError, match="6 slots cannot be spread over 7 workers"):
        remote([ThreadPart() for _ in range(7)])
    env = remote([ThreadPart(), ThreadPart()])
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.exchange({0: 1})
    env.reset(seed=0)
    with pytest.raises(gymnasium.error.InvalidAction, match="between 0 and 5, not 6"):
        env.exchange({6: 0})
    with pytest.raises(gymnasium.error.InvalidAction, match="from 0 to 1, not 2"):
        env.exchange({0: 2})
    with pytest.raises(ConfigError, match="of 2 slots, not of 6"):
        env.restore(env.state()[:2])
    assert env.exchange({}) == []
    env.close()


def maker() -> Callable[[int], RoutingVectorEnv]:
    return make


@pytest.fixture
def ray() -> Iterator[Any]:
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=80_000_000, log_to_driver=False)
    yield ray
    ray.shutdown()


def test_actors_of_ray_may_be_killed(ray: Any, here: RoutingPPO) -> None:
    parts = parts_on(ClusterSettings(workers=2), maker)
    env = remote(parts)
    exchange, calls = env.exchange, 0

    def killing(actions: Mapping[int, int]) -> Any:
        nonlocal calls
        calls += 1
        if calls in (9, 20):
            os.kill(ray.get(parts[calls % 2].actor.process.remote()), signal.SIGKILL)
        return exchange(actions)

    env.exchange = killing  # type: ignore[method-assign]
    assert same(learned(env), here) and env.lost >= 2
    env.close()
