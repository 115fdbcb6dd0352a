"""The environment against its specification and the two public checkers."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import envs
from envs import RoutingEnv
from envs.observer import Observer
from stepwise.errors import BackendError, ConfigError
from stepwise.routers import Always
from stepwise.routers.features import SIGNALS
from stepwise.types import Look
from tests.worlds import engine, problem

PROBLEMS = [problem(1, 9, 2), problem(3, 1), problem(8, 8, 1, 0)]


def make(**options: Any) -> gymnasium.Env[Any, Any]:
    assert envs.__file__
    return gymnasium.make(
        "stepwise/Routing-v0", engine=engine(), problems=PROBLEMS, cost_scale=1e3, **options
    )


@pytest.mark.parametrize("look", ["before", "probe", "after_draft"])
def test_it_passes_the_checkers_of_gymnasium_and_sb3(look: Look) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*render.*")
        check_env(make(look=look).unwrapped, skip_render_check=True)
        sb3_check_env(make(look=look).unwrapped)


def play(env: gymnasium.Env[Any, Any], policy: Any, **options: Any) -> tuple[float, dict[str, Any]]:
    observation, _ = env.reset(seed=0, options=options)
    total, done = 0.0, False
    info: dict[str, Any] = {}
    while not done:
        observation, reward, terminated, truncated, info = env.step(policy(observation))
        total, done = total + float(reward), terminated or truncated
    return total, info


def test_the_return_is_correctness_minus_the_weighted_cost() -> None:
    for look in ("before", "after_draft"):
        env = make(look=look, cost_weight=0.25)
        env.reset(seed=0, options={"problem": 0})
        first = env.unwrapped._episode.trace.cost / 1e3  # type: ignore[attr-defined]
        total, info = play(env, lambda _: 1, problem=0)
        assert info["correct"]
        assert total == pytest.approx(1.0 - 0.25 * (info["total_cost"] - first))


def test_actions_choose_the_writer_and_only_the_large_model_is_right_here() -> None:
    assert play(make(), lambda _: 0, problem=0)[1]["correct"] is False
    _, info = play(make(), lambda o: int(o[0] < 0.5), problem=0)
    assert info["correct"] and [step.model for step in info["trace"].steps][1] == "large"


def test_the_same_actions_give_the_trace_that_the_engine_gives() -> None:
    info = play(make(look="before"), lambda _: 1, problem=2)[1]
    assert info["trace"].text == engine().solve_sync(PROBLEMS[2], Always("large")).text


def test_a_failed_model_truncates_and_a_limit_terminates() -> None:
    world = engine(max_steps=1)
    env = RoutingEnv(world, PROBLEMS, look="before")
    env.reset(seed=0)
    assert env.step(0)[2:4] == (True, False)

    async def fail(_: str) -> None:
        raise BackendError("gone")

    world.backends["large"]._before = fail  # type: ignore[attr-defined]
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(1)
    assert (terminated, truncated) == (False, True)
    assert info["trace"].error == "gone" and not info["correct"] and reward == 0.0


def test_a_draft_that_fails_ends_the_episode_at_the_first_action() -> None:
    world = engine()

    async def fail(_: str) -> None:
        raise BackendError("gone")

    world.backends["small"]._before = fail  # type: ignore[attr-defined]
    env = RoutingEnv(world, PROBLEMS, look="after_draft")
    env.reset(seed=0)
    _, _, terminated, truncated, info = env.step(1)
    assert (terminated, truncated) == (False, True) and info["trace"].error == "gone"


def test_the_cost_weight_is_drawn_per_episode_and_observed() -> None:
    env = make(cost_weight=(0.1, 2.0))
    seen = {float(env.reset(seed=seed)[0][-1]) for seed in range(8)}
    assert len(seen) == 8
    assert env.observation_space.shape == (len(SIGNALS) + 2 + 1,)


def test_seeds_repeat_episodes() -> None:
    a, b = (play(make(), lambda _: 0)[1]["trace"] for _ in range(2))
    assert a == b


def test_a_model_whose_context_is_full_is_masked() -> None:
    world = engine()
    world.backends["large"].context = 64 + 20
    env = RoutingEnv(world, [problem(*range(8))], look="after_draft")
    _, info = env.reset(seed=0)
    masks, done = [info["action_mask"].tolist()], False
    while not done:
        observation, _, terminated, truncated, info = env.step(0)
        done = terminated or truncated
        masks.append(info["action_mask"].tolist())
        assert observation[len(SIGNALS) : -1].tolist() == masks[-1] == env.action_masks().tolist()
    assert masks[0] == [True, True] and [True, False] in masks
    assert masks[-1] == [True, True]  # the chain has ended: no choice matters


@pytest.mark.parametrize(
    "options, message",
    [
        ({"look": "later"}, "look must be one of before"),
        ({"cost_weight": -1.0}, "cost_weight must lie in"),
        ({"cost_weight": (0.0, 1.0)}, "cost_weight must lie in"),
        ({"cost_scale": 0.0}, "cost_scale must be positive"),
        ({"problems": []}, "problems must not be empty"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RoutingEnv(engine(), **{"problems": PROBLEMS, **options})


def test_an_observer_of_ones_own_decides_what_is_seen() -> None:
    observer = Observer.of(["question", "position"])
    env = make(look="before", observer=observer)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.shape == observation.shape == (16 + 1 + 2 + 1,)
    space: Any = env.observation_space
    assert space.low.tolist() == [-1.0] * 16 + [0.0] * 4 and space.high.tolist() == [1.0] * 20
    assert env.step(1)[0][16] == pytest.approx(1 / 16)


def test_the_documented_table_is_the_observation() -> None:
    rows = [
        [cell.strip() for cell in line.strip(" |").split("|")]
        for line in str(RoutingEnv.__doc__).splitlines()
        if line.strip().startswith("|")
    ][2:]
    space: Any = RoutingEnv(engine(), PROBLEMS).observation_space
    assert [row[1] for row in rows] == [*SIGNALS, "action_mask", "cost_weight"]
    for index, (shown, _, span, _) in enumerate(rows[: len(SIGNALS)]):
        assert int(shown) == index and span == f"[{space.low[index]:g}, {space.high[index]:g}]"


def test_rendering_shows_who_wrote_what() -> None:
    env = make(look="before", render_mode="ansi")
    env.reset(seed=0, options={"problem": 1})
    env.step(1)
    assert env.render() == "[large] 0 + 3 = 3."
    assert np.isfinite(env.reset(seed=1)[0]).all()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"problm": 1}, "options must be among problem, cost_weight, not 'problm'"),
        ({"problem": 3}, "problem must be an index from 0 to 2, not 3"),
        ({"problem": -1}, "problem must be an index from 0 to 2, not -1"),
        ({"problem": "1"}, "problem must be an index from 0 to 2, not '1'"),
        ({"cost_weight": 11.0}, r"cost_weight must lie in \[0, 10\], not 11.0"),
        ({"cost_weight": "dear"}, "cost_weight must lie in"),
    ],
)
def test_bad_options_of_a_reset_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RoutingEnv(engine(), PROBLEMS).reset(seed=0, options=options)


def test_nothing_is_done_after_the_end_or_by_no_action() -> None:
    env = RoutingEnv(engine(max_steps=1), PROBLEMS, look="before")
    env.reset(seed=0)
    for action in (2, -1, 0.5, None):
        with pytest.raises(gymnasium.error.InvalidAction, match="an integer from 0 to 1"):
            env.step(action)
    assert env.step(np.int64(1))[2]
    with pytest.raises(gymnasium.error.ResetNeeded, match="the episode has ended"):
        env.step(1)
