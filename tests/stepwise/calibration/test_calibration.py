"""Calibration: every promise checked by Monte Carlo against a known truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stepwise.calibration import CalibrationRecord, OnlineThreshold, calibrate
from stepwise.calibration.bounds import betting, exact_binomial, hoeffding_bentkus
from stepwise.errors import ConfigError, InfeasibleTarget
from tests.records import spread_record

POPULATION = spread_record(n=40_000, seed=1)
TRUE_LOSS, TRUE_COST = POPULATION.losses.mean(1), POPULATION.cost_share
TRIALS = 1000


def splits(n: int, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return (POPULATION.subset(rng.integers(0, POPULATION.n, n)) for _ in range(TRIALS))


def noise(delta: float) -> float:
    """Three standard errors of a share of about delta in the Monte Carlo itself."""
    return 3 * float(np.sqrt(delta * (1 - delta) / TRIALS))


@pytest.mark.parametrize("p_values", [hoeffding_bentkus, exact_binomial, lambda x, r: betting(x, r, 0.1)])
@pytest.mark.parametrize("limit", [0.05, 0.3])
def test_p_values_are_valid_at_the_limit_and_find_a_lower_risk(p_values: Any, limit: float) -> None:
    rng = np.random.default_rng(0)
    at_limit = p_values(rng.binomial(1, limit, (4000, 200)).astype(float), limit)
    for level in (0.02, 0.1):
        assert (at_limit <= level).mean() <= level + 3 * np.sqrt(level / 4000)
    below = p_values(rng.binomial(1, limit / 4, (200, 400)).astype(float), limit)
    assert (below <= 0.1).mean() > 0.9


def test_betting_beats_hoeffding_bentkus_where_losses_vary_little() -> None:
    losses = np.random.default_rng(0).uniform(0.24, 0.36, (100, 300))
    assert np.median(betting(losses, 0.33, 0.1)) < 0.05 < np.median(hoeffding_bentkus(losses, 0.33))


@pytest.mark.parametrize("method", ["ltt", "hoeffding-bentkus"])
@pytest.mark.parametrize("delta", [0.02, 0.1])
@pytest.mark.parametrize("target", [{"max_accuracy_loss": 0.05}, {"budget": 0.4}])
def test_promises_fail_no_more_often_than_delta(target: dict[str, float], delta: float, method: Any) -> None:
    failures = 0
    for record in splits(300):
        try:
            threshold = calibrate(record, **target, delta=delta, method=method).threshold
        except InfeasibleTarget:
            continue
        at = int(np.searchsorted(POPULATION.thresholds, threshold))
        truth, limit = (TRUE_COST, target["budget"]) if "budget" in target else (TRUE_LOSS, 0.05)
        failures += truth[at] > limit
    assert failures / TRIALS <= delta + noise(delta)


def test_two_promises_share_delta() -> None:
    failures = 0
    for record in splits(400):
        at = np.searchsorted(
            POPULATION.thresholds, calibrate(record, budget=0.75, max_accuracy_loss=0.25, delta=0.1).threshold
        )
        failures += bool(TRUE_COST[at] > 0.75 or TRUE_LOSS[at] > 0.25)
    assert failures / TRIALS <= 0.1 + noise(0.1)


def test_risk_control_holds_on_average() -> None:
    risks = []
    for record in splits(200):
        threshold = calibrate(record, max_accuracy_loss=0.1, method="crc").threshold
        risks.append(TRUE_LOSS[np.searchsorted(POPULATION.thresholds, threshold)])
    assert np.mean(risks) <= 0.1


def test_risk_control_does_not_trust_losses_that_fall_and_rise() -> None:
    flat = spread_record(n=300)
    correct = np.repeat(flat.large_correct[None], len(flat.thresholds), axis=0)
    bumpy = correct.copy()
    bumpy[5] = False  # every problem wrong at one careful threshold only
    assert calibrate(replace(flat, correct=correct), max_accuracy_loss=0.1, method="crc").threshold == 2.0
    found = calibrate(replace(flat, correct=bumpy), max_accuracy_loss=0.1, method="crc").threshold
    assert found < flat.thresholds[5]


def test_the_loss_promise_is_tight() -> None:
    """At n = 1000 and delta = 0.1 the median choice spends at most 15% more than the best true one."""
    best = TRUE_COST[TRUE_LOSS <= 0.05].min()
    spent = [
        TRUE_COST[np.searchsorted(POPULATION.thresholds, calibrate(record, max_accuracy_loss=0.05).threshold)]
        for record in splits(1000)
    ]
    assert np.mean(spent) <= 1.15 * best


def test_within_a_budget_the_most_accurate_is_chosen_within_a_loss_the_cheapest() -> None:
    record = POPULATION
    rich, poor = calibrate(record, budget=0.9), calibrate(record, budget=0.3)
    assert rich.accuracy > poor.accuracy and rich.cost > poor.cost and poor.cost <= 0.3
    strict, loose = calibrate(record, max_accuracy_loss=0.02), calibrate(record, max_accuracy_loss=0.2)
    assert strict.cost > loose.cost and strict.accuracy_loss <= 0.02 < loose.accuracy_loss <= 0.2


def test_targets_out_of_reach_name_the_nearest_that_is_not() -> None:
    record = spread_record(n=200)
    targets: list[dict[str, Any]] = [{"budget": 0.03}, {"max_accuracy_loss": 0.001}]
    for target in targets:
        with pytest.raises(InfeasibleTarget, match=next(iter(target))) as caught:
            calibrate(record, **target)
        nearest: dict[str, Any] = dict.fromkeys(target, caught.value.best)
        calibrate(record, **nearest)
    with pytest.raises(InfeasibleTarget, match="together") as caught:
        calibrate(record, budget=0.2, max_accuracy_loss=0.05)
    calibrate(record, budget=caught.value.best, max_accuracy_loss=0.05)


def test_a_router_that_is_never_cheaper_than_the_large_model_hears_that() -> None:
    record = spread_record(n=200)
    dear = replace(record, cost=record.cost + 1.5 * record.large_cost)
    with pytest.raises(InfeasibleTarget, match=rf"its cheapest setting costs {dear.cost_share.min():.0%} of"):
        calibrate(dear, budget=0.5)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({}, "give a budget"),
        ({"budget": 0.0}, "budget"),
        ({"budget": 1.01}, "budget"),
        ({"budget": float("nan")}, "budget"),
        ({"max_accuracy_loss": 1.0}, "max_accuracy_loss"),
        ({"budget": 0.4, "delta": 0.0}, "delta"),
        ({"budget": 0.4, "method": "magic"}, "method"),
    ],
)
def test_senseless_targets_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        calibrate(POPULATION, **wrong)


def test_a_record_survives_its_file_and_refuses_tables_that_do_not_fit(tmp_path: Path) -> None:
    record = spread_record(n=50)
    record.save(tmp_path / "calibration.npz")
    loaded = CalibrationRecord.load(tmp_path / "calibration.npz")
    assert loaded.summary() == record.summary() and (loaded.groups == record.groups).all()
    with pytest.raises(ConfigError, match="do not fit"):
        replace(record, large_cost=record.large_cost[:-1])
    with pytest.raises(ConfigError, match="must rise"):
        replace(record, thresholds=record.thresholds[::-1])
    with pytest.raises(ConfigError, match="cost must be positive"):
        replace(record, cost=np.full_like(record.cost, np.nan))


def test_groups_add_up_to_the_whole() -> None:
    record = spread_record(n=500)
    lines = record.by_group(1.0)
    at = int(np.searchsorted(record.thresholds, 1.0))
    assert sum(line["n"] for line in lines) == 500
    assert sum(line["n"] * line["accuracy"] for line in lines) / 500 == pytest.approx(record.accuracy[at])
    with pytest.raises(ConfigError, match="threshold must be one of"):
        record.by_group(0.123)


def stream(n: int, hard: bool, seed: int) -> CalibrationRecord:
    """Problems of the easy or the hard half of the population."""
    part = POPULATION.subset(np.flatnonzero(POPULATION.groups == ("hard" if hard else "easy")))
    return part.subset(np.random.default_rng(seed).integers(0, part.n, n))


def serve(online: OnlineThreshold, traffic: CalibrationRecord) -> list[float]:
    """Cost shares as problems arrive one by one; between two recorded thresholds, the nearest."""
    spent = []
    for i in range(traffic.n):
        at = int(np.abs(traffic.thresholds - online.threshold).argmin())
        spent.append(float(traffic.cost[at, i] / POPULATION.large_cost.mean()))
        online.update(spent[-1])
    return spent


def test_online_spending_stays_on_target_when_easy_traffic_turns_hard() -> None:
    target, half = 0.4, 1500
    calibration = POPULATION.subset(np.flatnonzero(POPULATION.groups == "easy"))
    whole, after = [], []
    for seed in range(10):
        online = OnlineThreshold(calibration, target)
        first = serve(online, stream(half, hard=False, seed=seed))
        second = serve(online, stream(half, hard=True, seed=seed + 100))
        whole.append(np.mean(first + second))
        after.append(np.mean(second[300:]))
    assert np.mean(whole) == pytest.approx(target, rel=0.05)
    assert np.mean(after) == pytest.approx(target, rel=0.10)
    static = calibration.thresholds[np.abs(calibration.cost_share - target).argmin()]
    at = int(np.searchsorted(POPULATION.thresholds, static))
    hard = stream(half, hard=True, seed=0)
    assert abs(hard.cost[at].mean() / POPULATION.large_cost.mean() - target) > 0.25 * target


def test_an_online_threshold_survives_a_restart_and_does_not_wind_up() -> None:
    online = OnlineThreshold(POPULATION, 0.4)
    for cost in (0.9, 0.2, 0.7):
        online.update(cost)
    again = OnlineThreshold(POPULATION, 0.4)
    again.restore(online.state())
    assert again.threshold == online.threshold
    for _ in range(1000):
        online.update(3.0)
    assert online.threshold == POPULATION.thresholds[-1]
    online.update(0.0)
    assert online.threshold < POPULATION.thresholds[-1]
    with pytest.raises(ConfigError, match="cost must be a number"):
        online.update(float("nan"))
    with pytest.raises(ConfigError, match="target"):
        OnlineThreshold(POPULATION, 0.0)
