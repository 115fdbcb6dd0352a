"""Calibration: the promise on cost, checked by Monte Carlo."""

from __future__ import annotations

import numpy as np
import pytest

from stepwise.calibration import Curve, measure_curve
from stepwise.errors import ConfigError, InfeasibleTarget

CURVE = Curve((0.1, 0.5, 1.0), (0.95, 0.9, 0.6), (0.6, 0.4, 0.2), (0.63, 0.43, 0.22), 500, "split")


def test_the_most_accurate_threshold_within_the_budget_is_chosen() -> None:
    assert CURVE.threshold_for(1.0) == 0.1
    assert CURVE.threshold_for(0.63) == 0.1
    assert CURVE.threshold_for(0.6) == 0.5
    assert CURVE.threshold_for(0.3) == 1.0


def test_of_equally_accurate_thresholds_the_cheaper_wins() -> None:
    tied = Curve((0.1, 0.5), (0.9, 0.9), (0.6, 0.4), (0.63, 0.43), 500, "split")
    assert tied.threshold_for(0.7) == 0.5


def test_unreachable_budgets_name_the_least_that_is_reachable() -> None:
    with pytest.raises(InfeasibleTarget, match=r"0\.220") as caught:
        CURVE.threshold_for(0.1)
    assert caught.value.best == 0.22
    for budget in (0.0, 1.01, float("nan")):
        with pytest.raises(ConfigError, match="budget"):
            CURVE.threshold_for(budget)


def test_the_upper_bound_covers_the_true_cost_about_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    trials, n = 2000, 300
    covered = 0
    for _ in range(trials):
        large = rng.gamma(4.0, 0.25, n)
        spent = large * rng.binomial(1, 0.4, n) + 0.05
        curve = measure_curve([1.0], np.ones((1, n)), spent[None], large, "split")
        covered += curve.cost_upper[0] >= 0.4 + 0.05
    assert covered / trials == pytest.approx(0.95, abs=0.02)


def test_a_curve_survives_json() -> None:
    record = {
        "thresholds": list(CURVE.thresholds), "accuracy": list(CURVE.accuracy), "cost": list(CURVE.cost),
        "cost_upper": list(CURVE.cost_upper), "n": CURVE.n, "split": CURVE.split,
    }  # fmt: skip
    assert Curve.from_dict(record) == CURVE
