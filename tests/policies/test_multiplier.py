"""The multiplier: which way it moves, how far, and where it stays."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from envs import RoutingVectorEnv
from envs.episode import MAX_COST_WEIGHT
from policies.multiplier import MIN_COST_WEIGHT, DualAscent
from stepwise.errors import ConfigError
from tests.worlds import engine, problem


def ascent(budget: float, cost_weight: Any = 0.5) -> tuple[DualAscent, RoutingVectorEnv]:
    env = RoutingVectorEnv(engine(), [problem(1, 2)], num_envs=1, cost_weight=cost_weight)
    dual = DualAscent(env, budget, rate=1.0, decay=0.6)
    dual.model = SimpleNamespace(logger=SimpleNamespace(record=lambda *_: None))  # type: ignore[assignment]
    dual._on_training_start()
    return dual, env


def test_each_rollout_moves_it_by_the_relative_excess_in_steps_that_decay() -> None:
    dual, env = ascent(budget=0.4)
    dual.update(0.6)
    assert dual.cost_weight == env.task.cost_weight == pytest.approx(0.5 * math.exp(0.5))
    dual.update(0.2)
    assert dual.cost_weight == pytest.approx(0.5 * math.exp(0.5 - 2**-0.6 * 0.5))
    dual.update(0.4)
    assert dual.cost_weight == pytest.approx(0.5 * math.exp(0.5 - 2**-0.6 * 0.5))


def test_it_starts_in_the_middle_of_a_range_and_stays_within_its_bounds() -> None:
    dual, _ = ascent(budget=0.01, cost_weight=(0.25, 4.0))
    assert dual.cost_weight == pytest.approx(1.0)
    dual.update(5.0)
    assert dual.cost_weight == MAX_COST_WEIGHT
    dual, _ = ascent(budget=1e3, cost_weight=0.0012)
    dual.update(0.0)
    assert dual.cost_weight == MIN_COST_WEIGHT


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="budget must be above 0"):
        ascent(budget=0.0)
