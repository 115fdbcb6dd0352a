"""Models that cannot be run while a policy learns: waiting, giving up, and going on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs import RoutingVectorEnv
from policies.reference import Reference
from policies.train import train
from stepwise.errors import BackendError
from tests.policies.test_train import POLICY, PROBLEMS, World
from tests.worlds import engine

STEPS = 8 * 16
PAIR: Any = World()


class Server:
    """Is up for a number of calls, then down for as many tries as it is told."""

    def __init__(self, up: int, down: int, retryable: bool = True) -> None:
        self.up, self.down, self.retryable = up, down, retryable

    async def __call__(self, _: str) -> None:
        self.up -= 1
        if self.up < 0 and self.down > 0:
            self.down -= 1
            raise BackendError("gone.", retryable=self.retryable, model="large")


def learn(folder: Path, server: Server | None, patience_s: float = 600.0) -> Any:
    world = engine()
    if server:
        world.backends["large"]._before = server  # type: ignore[attr-defined]
    env = RoutingVectorEnv(world, PROBLEMS, 8, cost_scale=1e3, patience_s=patience_s)
    settings = {**POLICY, "total_steps": 4 * STEPS, "ppo": {**POLICY["ppo"], "n_steps": 16, "batch_size": 64}}
    return train(env, PAIR, settings, output=folder, seed=0, every=1, reference=Reference(1e3, 1.0, 1))


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    made: list[float] = []
    sleep = asyncio.sleep

    async def quick(seconds: float) -> None:
        if seconds:
            made.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", quick)
    return made


def test_an_outage_that_passes_changes_nothing(tmp_path: Path, pauses: list[float]) -> None:
    whole = learn(tmp_path / "whole", None)
    waited = learn(tmp_path / "waited", Server(up=20, down=4))
    assert len(pauses) == 4 and waited.card["errors"] == 0
    assert np.array_equal(whole.weights["w0"], waited.weights["w0"])


def test_an_outage_that_lasts_ends_the_training_and_keeps_the_checkpoint(
    tmp_path: Path, pauses: list[float]
) -> None:
    whole = learn(tmp_path / "whole", None)
    with pytest.raises(BackendError, match=r"gone\. Waited 63 s for it\."):
        learn(tmp_path / "cut", Server(up=50, down=10**6), patience_s=60.0)
    assert sum(pauses) >= 63 and (tmp_path / "cut" / "checkpoint.zip").exists()
    assert np.array_equal(whole.weights["w0"], learn(tmp_path / "cut", None).weights["w0"])


def test_training_gives_up_where_too_many_episodes_fail_for_good(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"\d+ of \d+ episodes of a rollout failed"):
        learn(tmp_path, Server(up=0, down=10**6, retryable=False))


def test_few_failures_are_counted(tmp_path: Path) -> None:
    artifact = learn(tmp_path, Server(up=20, down=3, retryable=False))
    assert artifact.card["errors"] == 3
