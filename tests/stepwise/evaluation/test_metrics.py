"""Metrics against known answers, invariances, and the coverage that an interval promises."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwise.errors import ConfigError
from stepwise.evaluation import metrics
from stepwise.evaluation.metrics import Array, Point, RouterMetrics

SMALL, LARGE = Point(0.1, 0.35), Point(1.0, 0.95)
POINTS = st.lists(st.tuples(st.floats(0.05, 1.2), st.floats(0, 1)), min_size=1, max_size=8)


def with_ends(points: list[tuple[float, float]]) -> metrics.Curve:
    return metrics.curve([cost for cost, _ in points], [right for _, right in points], SMALL, LARGE)


def numbers(router: metrics.Curve) -> list[float]:
    thresholds = [metrics.cpt(router, x, SMALL, LARGE) for x in (0.2, 0.5, 0.95, 1)]
    return [metrics.apgr(router, SMALL, LARGE), metrics.aiq(router, SMALL.cost, LARGE.cost), *thresholds]


def models(problems: int = 400) -> tuple[Array, Array, Array, Array]:
    """A nested pair (large solves all that small solves): correct and cost of each, [problems]."""
    difficulty = np.random.default_rng(1).random(problems)
    small, large = (difficulty < 0.35).astype(float), (difficulty < 0.95).astype(float)
    return small, np.full(problems, 2.0), large, np.full(problems, 20.0)


def test_pgr_is_zero_at_small_and_one_at_large() -> None:
    assert metrics.pgr([0.35, 0.65, 0.95], 0.35, 0.95) == pytest.approx([0, 0.5, 1])
    assert np.isnan(metrics.pgr(0.5, 0.7, 0.7))


@given(st.lists(st.floats(0, 1), max_size=6), st.floats(0, 1))
def test_mixing_at_random_has_half_the_area_and_a_linear_cpt(shares: list[float], target: float) -> None:
    mixed = [(0.1 + 0.9 * share, 0.35 + 0.6 * share) for share in shares]
    router = with_ends(mixed)
    assert metrics.apgr(router, SMALL, LARGE) == pytest.approx(0.5)
    assert metrics.cpt(router, target, SMALL, LARGE) == pytest.approx(0.1 + 0.9 * target)
    assert metrics.aiq(router, 0.1, 1.0) == pytest.approx(0.65)


def test_known_areas_of_one_point() -> None:
    router = with_ends([(0.4, 0.8)])  # PGR 0.75 after a third of the cost range
    assert metrics.apgr(router, SMALL, LARGE) == pytest.approx(0.75 / 6 + 1.75 / 3)
    assert metrics.cpt(router, 0.5, SMALL, LARGE) == pytest.approx(0.3)
    assert metrics.aiq(router, 0.4, 1.0) == pytest.approx(0.875)


def test_an_oracle_recovers_nearly_everything() -> None:
    router = with_ends([(SMALL.cost, LARGE.accuracy)])
    assert metrics.apgr(router, SMALL, LARGE) == pytest.approx(1)
    assert metrics.cpt(router, 0.95, SMALL, LARGE) == pytest.approx(SMALL.cost)


def test_below_the_line_apgr_falls_and_the_hull_does_not() -> None:
    router = with_ends([(0.6, 0.4)])
    assert metrics.apgr(router, SMALL, LARGE) < 0.5
    assert metrics.aiq(router, 0.1, 1.0) == pytest.approx(0.65)


def test_cpt_is_nan_where_the_curve_never_gets() -> None:
    alone = metrics.curve([0.2, 0.5], [0.4, 0.6])
    assert math.isnan(metrics.cpt(alone, 0.95, SMALL, LARGE))
    assert metrics.cpt(alone, 0.0, SMALL, LARGE) == pytest.approx(0.2)
    assert math.isnan(metrics.cpt(alone, 0.5, LARGE, SMALL))


@given(POINTS, st.data())
def test_a_dominated_point_changes_nothing(points: list[tuple[float, float]], data: st.DataObject) -> None:
    cost, accuracy = data.draw(st.sampled_from(points))
    worse = (cost + data.draw(st.floats(0, 0.5)), accuracy * data.draw(st.floats(0, 1)))
    assert numbers(with_ends([*points, worse])) == pytest.approx(numbers(with_ends(points)))


@given(POINTS)
def test_the_curve_rises_and_ignores_order(points: list[tuple[float, float]]) -> None:
    router = with_ends(points)
    assert (np.diff(router.cost) > 0).all() and (np.diff(router.accuracy) > 0).all()
    assert numbers(with_ends(points[::-1])) == pytest.approx(numbers(router))


@given(POINTS)
def test_the_hull_is_never_below_the_curve(points: list[tuple[float, float]]) -> None:
    router = with_ends(points)
    recovered = metrics.pgr(metrics.aiq(router, SMALL.cost, LARGE.cost), SMALL.accuracy, LARGE.accuracy)
    assert recovered >= metrics.apgr(router, SMALL, LARGE) - 1e-9


def test_summary_of_known_routers_is_json() -> None:
    small, small_cost, large, large_cost = models()
    reference = (small, small_cost), (large, large_cost)
    needed = np.where(small == large, small_cost, large_cost)
    routers = {"mixed": reference[0], "oracle": (large[None], needed[None])}
    summary = metrics.summarise(routers, *reference)
    assert summary["mixed"].apgr == pytest.approx(0.5)
    assert summary["mixed"].cpt50 == pytest.approx(0.55)
    low, high = np.array(summary["oracle"].apgr_ci, dtype=float)
    assert low < np.array(summary["oracle"].apgr, dtype=float) < high
    as_json = msgspec.json.encode(summary)
    assert msgspec.json.decode(as_json, type=dict[str, RouterMetrics]) == summary
    assert metrics.summarise(routers, *reference) == summary


def test_what_is_undefined_is_none() -> None:
    small, small_cost, large, large_cost = models(20)
    nothing_gained = metrics.summarise({"r": (small, small_cost)}, (large, small_cost), (small, large_cost))
    assert nothing_gained["r"].apgr is None and nothing_gained["r"].apgr_ci == [None, None]
    free = metrics.summarise({"r": (small, small_cost)}, (small, 0 * small), (large, 0 * large))
    assert free["r"] == msgspec.structs.replace(nothing_gained["r"], aiq=None)


def test_a_router_that_is_never_cheaper_than_the_large_model_has_no_apgr() -> None:
    small, small_cost, large, large_cost = models()
    ends = (small, small_cost), (large, large_cost)
    routers = {"same": ends[1], "dear": (large, 2 * large_cost), "mixed": ends[0]}
    metrics_of = metrics.summarise(routers, *ends)
    for name in ("same", "dear"):
        assert metrics_of[name].apgr is None and metrics_of[name].apgr_ci == [None, None]
        assert np.isnan(metrics.difference_in_apgr(routers[name], routers["mixed"], *ends)).all()
    assert metrics_of["mixed"].apgr == pytest.approx(0.5)


def test_difference_at_equal_cost() -> None:
    small, small_cost, large, large_cost = models()
    mixed = (np.stack([small, large]), np.stack([small_cost, large_cost]))
    cheap = (large, 5.0 + small_cost)  # large-only quality for 35% of the cost
    difference, low, high = metrics.difference_at_cost(cheap, mixed, 0.55, (large, large_cost), seed=3)
    assert difference == pytest.approx((large.mean() - small.mean()) / 2)
    assert 0 < low < difference < high
    assert metrics.difference_at_cost(mixed, mixed, 0.5, (large, large_cost)) == (0, 0, 0)
    assert np.isnan(metrics.difference_at_cost(cheap, mixed, 0.2, (large, large_cost))).all()


def test_pairing_removes_what_the_routers_share() -> None:
    shared = np.random.default_rng(2).normal(size=200)
    assert metrics.paired_difference(shared + 0.25, shared) == pytest.approx((0.25, 0.25, 0.25))
    low, high = metrics.interval(shared)
    assert high - low > 0.2


def test_intervals_are_seeded() -> None:
    values = np.arange(30) % 3
    assert metrics.interval(values, seed=5) == metrics.interval(values, seed=5)
    assert metrics.interval(values, seed=5) != metrics.interval(values, seed=6)


def test_input_that_fits_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one problem"):
        metrics.interval([])
    with pytest.raises(ConfigError, match="3 problems"):
        metrics.summarise({"r": ([1, 0], [1, 1])}, ([1, 0, 0], [1, 1, 1]), ([1, 1, 0], [2, 2, 2]))


def test_the_interval_covers_the_true_mean() -> None:
    rng = np.random.default_rng(0)
    truth, trials, covered = 0.7, 400, 0
    for seed in range(trials):
        low, high = metrics.interval(rng.random(120) < truth, seed=seed, replicates=400)
        covered += low <= truth <= high
    assert 0.92 <= covered / trials <= 0.98


def test_the_difference_in_apgr_is_paired() -> None:
    rng = np.random.default_rng(0)
    small, large = (rng.random(300) < 0.4, np.full(300, 0.1)), (rng.random(300) < 0.95, np.ones(300))
    cost = np.tile([[0.3], [0.6]], 300)
    good = (np.stack([rng.random(300) < accuracy for accuracy in (0.7, 0.9)]), cost)
    bad = (np.stack([rng.random(300) < accuracy for accuracy in (0.6, 0.8)]), cost)
    mean, low, high = metrics.difference_in_apgr(good, bad, small, large, seed=1)
    each = metrics.summarise({"good": good, "bad": bad}, small, large)
    assert mean == pytest.approx((each["good"].apgr or 0) - (each["bad"].apgr or 0))
    assert 0 < low < mean < high
    same = metrics.difference_in_apgr(good, good, small, large)
    assert same == (0.0, 0.0, 0.0)
