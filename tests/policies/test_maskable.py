"""MaskablePPO of sb3-contrib over the batched form, where it is installed."""

from __future__ import annotations

import numpy as np
import pytest

from envs import RoutingVectorEnv
from policies.sb3_env import SB3Routing
from tests.worlds import engine, problem

PROBLEMS = [problem(*[1] * 20), problem(2, 8)]


def full() -> SB3Routing:
    """The large model's context ends in the middle of the first problem."""
    world = engine()
    world.backends["large"].context = 160
    return SB3Routing(RoutingVectorEnv(world, PROBLEMS, 4, look="before", cost_scale=1e3))


def test_every_slot_says_which_actions_make_sense() -> None:
    env = full()
    env.seed(0)
    env.reset()
    masks = []
    for _ in range(30):
        assert env.has_attr("action_masks")
        rows = env.env_method("action_masks")
        assert env.env_method("action_masks", indices=[1])[0].tolist() == rows[1].tolist()
        masks.append(rows)
        env.step(np.zeros(4, int))
    flat = np.array(masks).reshape(-1, 2)
    assert flat[:, 0].all() and not flat[:, 1].all() and flat[:, 1].any()
    with pytest.raises(NotImplementedError, match="no method 'render_all'"):
        env.env_method("render_all")


def test_maskable_ppo_trains_on_the_batched_form() -> None:
    contrib = pytest.importorskip("sb3_contrib")
    env = full()
    taken: list[bool] = []
    step = env.env.act

    def act(actions: np.ndarray) -> object:
        masks = env.env.action_masks()
        taken.extend(bool(mask[action]) for mask, action in zip(masks, actions, strict=True))
        return step(actions)

    env.env.act = act  # type: ignore[method-assign, assignment]
    contrib.MaskablePPO("MlpPolicy", env, n_steps=64, batch_size=64, seed=0, device="cpu").learn(512)
    assert len(taken) == 512 and all(taken)
