"""The batched environment: concurrent, independent slots, and SB3's view of them."""

from __future__ import annotations

import asyncio
from typing import Any

import gymnasium
import numpy as np
import pytest

from envs import RoutingVectorEnv
from envs.observer import Observer
from policies.sb3_env import SB3Routing
from stepwise.backends.scripted import ScriptedBackend
from stepwise.engine.cost import Tokens
from stepwise.engine.engine import Engine
from stepwise.engine.stop_rules import StepRule
from stepwise.errors import ConfigError
from stepwise.routers.features import SIGNALS
from stepwise.types import Problem
from tests.worlds import engine, problem

POSITION = SIGNALS.index("position")
PROBLEMS = [problem(1, 9, 2), problem(3, 1), problem(8, 8, 1, 0)]


def test_all_generations_of_a_step_are_in_flight_together() -> None:
    inside, gate = 0, asyncio.Event()

    async def together(_: str) -> None:
        nonlocal inside
        inside += 1
        if inside == 6:
            gate.set()
        await gate.wait()  # nobody passes before all six are here

    backend = ScriptedBackend(lambda _: "The answer is 1.", before=together)
    world = Engine({"m": backend, "n": backend}, prompt="{question}\n", rule=StepRule(), cost=Tokens())
    env = RoutingVectorEnv(world, [Problem("p", "q", "1")], num_envs=6, look="before")
    env.reset(seed=0)
    _, rewards, terminated, _, info = env.step(np.zeros(6, int))
    assert terminated.all() and (rewards > -1e9).all()
    assert all(final["correct"] for final in info["final_info"])
    env.close()


def test_finished_slots_start_over_while_others_go_on() -> None:
    env = RoutingVectorEnv(engine(), PROBLEMS, num_envs=3, look="before", cost_scale=1e3)
    env.reset(seed=3)
    lengths: list[list[int]] = [[], [], []]
    since = [0, 0, 0]
    for _ in range(30):
        observations, _, terminated, truncated, info = env.step(np.ones(3, int))
        for slot in range(3):
            since[slot] += 1
            if terminated[slot]:
                assert len(info["final_info"][slot]["trace"].steps) == since[slot]
                assert observations[slot][POSITION] == 0.0  # a new chain has no steps yet
                assert info["final_obs"][slot][POSITION] == pytest.approx(since[slot] / 16)
                lengths[slot].append(since[slot])
                since[slot] = 0
            else:
                assert info["final_info"][slot] is None
        assert not truncated.any()
    assert all(len(set(seen)) > 1 for seen in lengths)


def test_an_exchange_does_not_wait_for_a_straggler() -> None:
    gate = asyncio.Event()

    async def before(text: str) -> None:
        if text.startswith("slow"):
            await gate.wait()

    backend = ScriptedBackend(lambda _: "one\ntwo\nThe answer is 1.", before=before)
    world = Engine({"m": backend, "n": backend}, prompt="{question}\n", rule=StepRule(), cost=Tokens())
    problems = [Problem("slow", "slow", "1"), Problem("quick", "quick", "1")]
    env = RoutingVectorEnv(world, problems, num_envs=8, look="before")
    env.reset(seed=0)
    slow = {slot for slot, e in enumerate(env.episodes) if e.trace.problem.id == "slow"}
    assert 0 < len(slow) < 8
    arrivals = env.exchange(dict.fromkeys(range(8), 0))
    while len(arrivals) < 8 - len(slow):
        arrivals += env.exchange({})
    assert {arrival.slot for arrival in arrivals} == set(range(8)) - slow
    with pytest.raises(gymnasium.error.AlreadyPendingCallError, match="is under way"):
        env.exchange({min(slow): 0})
    world.run(_open(gate))
    late: set[int] = set()
    while len(late) < len(slow):
        late |= {arrival.slot for arrival in env.exchange({})}
    assert late == slow
    assert env.exchange({}) == []
    env.close()


async def _open(gate: asyncio.Event) -> None:
    gate.set()


def test_a_seed_repeats_a_batch() -> None:
    def roll() -> list[float]:
        env = RoutingVectorEnv(engine(), PROBLEMS, num_envs=4, cost_weight=(0.1, 1.0), cost_scale=1e3)
        env.reset(seed=5)
        return [float(r) for _ in range(12) for r in env.step(np.array([0, 1, 0, 1]))[1]]

    assert roll() == roll()


def test_gymnasium_makes_a_batch_with_every_argument() -> None:
    env = gymnasium.make_vec(
        "stepwise/Routing-v0", num_envs=3, engine=engine(), problems=PROBLEMS, look="before",
        cost_weight=(0.1, 1.0), cost_scale=1e3, observer=Observer.of(["trust"]),
    )  # fmt: skip
    observations, _ = env.reset(seed=0)
    assert isinstance(env, RoutingVectorEnv) and observations.shape == (3, 1 + 2 + 1)
    assert (observations[:, 0] == 1.0).all() and len(set(observations[:, -1])) == 3


def test_sb3_sees_the_last_observation_and_what_kind_of_end_it_was() -> None:
    env = SB3Routing(RoutingVectorEnv(engine(max_steps=1), PROBLEMS, num_envs=2, look="before"))
    env.seed(0)
    env.reset()
    seen: Any = env.step(np.zeros(2, int))
    observations, rewards, done, infos = seen
    assert done.all() and rewards.dtype == np.float32
    for slot, info in enumerate(infos):
        assert info["TimeLimit.truncated"] is False
        assert info["terminal_observation"][POSITION] == pytest.approx(1 / 16)
        assert observations[slot][POSITION] == 0.0
        assert "correct" in info and "total_cost" in info


@pytest.mark.parametrize(
    "actions", [[0, 1], [0, 1, 0, 1], [0, 2, 0], [0, -1, 0], np.zeros(3), [0, None, 1], [np.nan] * 3]
)
def test_invalid_actions_are_errors_and_no_slot_moves(actions: Any) -> None:
    env = RoutingVectorEnv(engine(), PROBLEMS, num_envs=3, look="before")
    env.reset(seed=0)
    with pytest.raises(gymnasium.error.InvalidAction):
        env.step(actions)
    assert all(not episode.trace.steps for episode in env.episodes)
    env.step(np.zeros(3, int))
    with pytest.raises(gymnasium.error.InvalidAction, match="slot must lie between 0 and 2, not 3"):
        env.exchange({3: 0})
    env.close()


def test_chains_go_on_where_they_were() -> None:
    whole, resumed = (
        RoutingVectorEnv(engine(), PROBLEMS, num_envs=3, cost_weight=(0.1, 1.0), cost_scale=1e3)
        for _ in range(2)
    )
    whole.reset(seed=3)
    for _ in range(5):
        before = whole.step(np.array([0, 1, 0]))[0]
    state = whole.state()
    assert any(slot.actions for slot in state)
    assert np.array_equal(resumed.restore(state), before)
    for _ in range(12):
        (seen, reward), (seen_again, reward_again) = (e.step(np.ones(3, int))[:2] for e in (whole, resumed))
        assert np.array_equal(seen, seen_again) and np.array_equal(reward, reward_again)
    with pytest.raises(ConfigError, match="the state is of 2 slots, not of 3"):
        resumed.restore(state[:2])
