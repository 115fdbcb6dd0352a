"""Rollouts in which nobody waits for the slowest: the same experience whatever arrives first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback

from envs import RoutingVectorEnv
from policies.network import GainCostPolicy
from policies.rollouts import RoutingPPO, gumbel
from policies.sb3_env import SB3Routing
from tests.worlds import engine, problem

PROBLEMS = [problem(a, b, c) for a in (1, 7) for b in (2, 8, 9) for c in (0, 3, 6)]
STEPS = 24


class Seen(BaseCallback):
    """Keeps what callbacks are told."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []
        self.calls = 0

    def _on_step(self) -> bool:
        self.calls += 1
        self.ends += [info["total_cost"] for info in self.locals["infos"] if "total_cost" in info]
        return True


def rollout(before: Callable[[str], Awaitable[None]] | None = None) -> tuple[RoutingPPO, Seen]:
    world = engine()
    world.backends["large"]._before = before  # type: ignore[attr-defined]
    env = SB3Routing(RoutingVectorEnv(world, PROBLEMS, num_envs=6, cost_scale=1e3))
    model = RoutingPPO(GainCostPolicy, env, n_steps=STEPS, batch_size=16, n_epochs=1, seed=0, device="cpu")
    seen = Seen()
    model.learn(STEPS * 6, callback=seen)
    return model, seen


async def late(text: str) -> None:
    for _ in range(len(text) % 7 * 3):
        await asyncio.sleep(0)


def test_late_generations_change_nothing() -> None:
    (one, quick), (two, slow) = rollout(), rollout(late)
    for name in ("observations", "actions", "rewards", "values", "log_probs", "advantages"):
        assert np.array_equal(getattr(one.rollout_buffer, name), getattr(two.rollout_buffer, name)), name
    for a, b in zip(one.policy.parameters(), two.policy.parameters(), strict=True):
        assert torch.equal(a, b)
    assert sorted(quick.ends) == sorted(slow.ends) and slow.calls > quick.calls
    assert one.num_timesteps == two.num_timesteps == STEPS * 6


def test_the_buffer_holds_what_happened() -> None:
    model, seen = rollout()
    buffer: Any = model.rollout_buffer
    starts = buffer.episode_starts
    assert starts[0].all() and starts.sum() in (len(seen.ends) + 6 - last for last in range(7))
    assert set(np.unique(buffer.actions)) == {0.0, 1.0}
    assert (buffer.log_probs < 0.0).all() and buffer.rewards.max() <= 1.0


def test_gumbel_noise_samples_a_softmax() -> None:
    torch.manual_seed(0)
    logits = torch.tensor([0.0, 1.0, -1.0])
    drawn = (logits + gumbel(20_000, 3)).argmax(1)
    share = torch.bincount(drawn, minlength=3) / 20_000
    assert torch.allclose(share, logits.softmax(0), atol=0.015)
