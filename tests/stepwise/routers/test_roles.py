"""Routers name roles; a pool fills them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from stepwise.routers import (
    Always,
    LargeFirst,
    LowConfidence,
    Random,
    SmallFirst,
    ThresholdRouter,
    load_router,
)
from stepwise.routers.roles import in_pool
from stepwise.routers.threshold import Confidence
from stepwise.types import Problem, Trace

POOL = ("a", "middle", "b")


@pytest.mark.parametrize(
    "router, model",
    [
        (Always("small"), "a"),
        (Always("large"), "b"),
        (Always("middle"), "middle"),
        (Random(1.0), "b"),
        (Random(0.0), "a"),
        (LargeFirst(1), "b"),
        (SmallFirst(1), "a"),
        (SmallFirst(0, large="middle"), "middle"),
    ],
)
def test_a_pool_fills_the_roles(router: Any, model: str) -> None:
    played = in_pool(router, POOL)
    assert played.decide(Trace(Problem("p", "q"))).model == model
    assert in_pool(router, ("small", "middle", "large")) is router


def test_a_scorer_plays_along_and_a_policy_keeps_its_models() -> None:
    kinds = LowConfidence((0.5, 0.5), (-2.0, -0.1), (1.0, 0.1))
    steer: Any = in_pool(ThresholdRouter(kinds, 0.4, "steer"), POOL)
    assert (steer.small, steer.large, steer.scorer.small) == ("a", "b", "a")
    assert in_pool(ThresholdRouter(Confidence(), 1.0, "c"), POOL).scorer == Confidence()
    policy = load_router("nano-ppo", threshold=1.0)
    assert in_pool(policy, POOL) is policy


@pytest.mark.parametrize("name", ["small", "large", "random", "confidence", "entropy", "large_first"])
def test_the_configured_routers_ask_only_models_of_the_pool(name: str) -> None:
    group: Any = OmegaConf.load(Path(__file__).parents[3] / "configs" / "router" / f"{name}.yaml")
    make = instantiate(group.router)
    router = in_pool(make(**{group.knob: group["values"][0]}) if "knob" in group else make(), POOL)
    asked = {getattr(router, part, "a") for part in ("model", "small", "large")}
    assert asked <= {"a", "b"}
