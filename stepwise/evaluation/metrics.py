"""What a router is worth: recovered quality against cost, and how sure one can be of it.

A router is measured at several thresholds on the same problems, which gives two arrays
``[points, problems]``: ``correct`` (0 or 1) and ``cost`` (any unit). The references `small` and
`large` are one point each, ``[problems]``. Costs turn into fractions of the mean large-only cost.

A router's *curve* joins its undominated points by straight lines; a line between two points is
reachable by choosing between them at random for every question. Small-only and large-only are
always on offer, so they belong to every curve that is compared with them.

All intervals are paired percentile bootstraps over problems: one resample of the problems serves
every router and both references. This module knows nothing of engines, thresholds or files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from stepwise.errors import ConfigError

Array = NDArray[np.float64]
Samples = tuple[ArrayLike, ArrayLike]
"""(correct, cost), each [points, problems], or [problems] for a single point."""

REPLICATES = 1000
ROUNDING = 1e-9  # relative: sums of the same costs in another order are equal
LEVELS = (2.5, 97.5)  # percent: the two ends of a 95% interval


class Point(NamedTuple):
    """Where one way of answering lands: cost as a fraction of large-only, accuracy in [0, 1]."""

    cost: float
    accuracy: float


class Curve(NamedTuple):
    """Undominated points [k], with strictly increasing cost fraction and accuracy."""

    cost: Array
    accuracy: Array

    def at(self, cost: float | Array) -> Array:
        """Best accuracy within a cost fraction; nan below the cheapest point."""
        return np.asarray(np.interp(cost, self.cost, self.accuracy, left=np.nan), dtype=np.float64)


def curve(cost: ArrayLike, accuracy: ArrayLike, *ends: Point) -> Curve:
    """The monotone envelope of points [k] and the given end points.

    A point goes if another costs no more and is right at least as often.
    """
    costs = np.append(np.asarray(cost, dtype=np.float64), [end.cost for end in ends])
    accuracies = np.append(np.asarray(accuracy, dtype=np.float64), [end.accuracy for end in ends])
    order = np.lexsort((-accuracies, costs))
    costs, accuracies = costs[order], accuracies[order]
    best_before = np.maximum.accumulate(np.append(-np.inf, accuracies[:-1]))
    keep = accuracies > best_before
    return Curve(costs[keep], accuracies[keep])


def pgr(accuracy: ArrayLike, small: float, large: float) -> Array:
    """Performance gap recovered, (a - a_small) / (a_large - a_small) (RouteLLM, arXiv 2406.18665).

    0 is small-only, 1 is large-only; nan unless the large model is the better one.
    """
    gap = large - small
    return (np.asarray(accuracy, dtype=np.float64) - small) / (gap if gap > 0 else np.nan)


def cpt(router: Curve, target: float, small: Point, large: Point) -> float:
    """Cost-performance threshold: least cost fraction whose PGR is `target`; nan if never.

    RouteLLM (arXiv 2406.18665) counts calls to the large model instead; here it is measured cost.
    """
    recovered = pgr(router.accuracy, small.accuracy, large.accuracy)
    if np.isnan(recovered).any():
        return math.nan
    return float(np.interp(target, recovered, router.cost, right=np.nan))


def apgr(router: Curve, small: Point, large: Point) -> float:
    """Average PGR between the small-only and the large-only cost (RouteLLM, arXiv 2406.18665).

    The trapezoid area under PGR over cost fraction, divided by the cost range: 0.5 for mixing the two
    models at random, 1 for large-only quality at small-only cost.
    """
    area = _mean_height(router, small.cost, large.cost)
    return float(pgr(area, small.accuracy, large.accuracy))


def aiq(router: Curve, low: float, high: float) -> float:
    """Average improvement in quality (RouterBench, arXiv 2403.12031).

    The area under the non-decreasing convex hull of (cost, accuracy) on [low, high], divided by
    high - low. Comparable between routers only on one range.
    """
    hull: list[Point] = []
    for point in map(Point, router.cost.tolist(), router.accuracy.tolist()):
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) <= _slope(hull[-1], point):
            hull.pop()
        hull.append(point)
    costs, accuracies = zip(*hull, strict=True)
    return _mean_height(Curve(np.array(costs), np.array(accuracies)), low, high)


def _slope(left: Point, right: Point) -> float:
    return (right.accuracy - left.accuracy) / (right.cost - left.cost)


def _mean_height(router: Curve, low: float, high: float) -> float:
    """Mean accuracy under a curve over the cost fractions [low, high]; nan on an empty range."""
    if not low < high:
        return math.nan
    inside = router.cost[(router.cost > low) & (router.cost < high)]
    costs = np.concatenate(([low], inside, [high]))
    return float(np.trapezoid(router.at(costs), costs)) / (high - low)


def resamples(problems: int, seed: int = 0, replicates: int = REPLICATES) -> Array:
    """Bootstrap weights [replicates, problems], each row summing to 1.

    A weight is how often a problem was drawn, over the number of problems, so that
    ``weights @ values`` are the means of `replicates` resamples.
    """
    if problems < 1:
        raise ConfigError(f"A bootstrap needs at least one problem, but there were {problems}.")
    draws = np.random.default_rng(seed).multinomial(problems, np.full(problems, 1 / problems), replicates)
    return draws / problems


def interval(values: ArrayLike, *, seed: int = 0, replicates: int = REPLICATES) -> tuple[float, float]:
    """95% bootstrap interval of the mean of values [problems]."""
    array = np.asarray(values, dtype=np.float64)
    return _percentiles(resamples(array.size, seed, replicates) @ array)


def paired_difference(
    a: ArrayLike, b: ArrayLike, *, seed: int = 0, replicates: int = REPLICATES
) -> tuple[float, float, float]:
    """Mean of a - b over the same problems [problems], and its 95% interval: (mean, low, high)."""
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    low, high = interval(difference, seed=seed, replicates=replicates)
    return float(difference.mean()), low, high


def difference_at_cost(
    a: Samples, b: Samples, budget: float, large: Samples, *, seed: int = 0, replicates: int = REPLICATES
) -> tuple[float, float, float]:
    """Accuracy of router `a` less that of `b` within one cost fraction: (difference, low, high).

    Each router is read off its own curve, without the end points: where a router has no point as
    cheap as `budget` it has no accuracy, and the difference is nan. The ends are nan if that happens
    in any resample, which it does when the budget sits at a router's cheapest point.
    """
    weighings = _Weighings(large, seed, replicates)
    pairs = zip(weighings.points(a), weighings.points(b), strict=True)
    differences = np.array([curve(*first).at(budget) - curve(*second).at(budget) for first, second in pairs])
    return float(differences[0]), *_percentiles(differences[1:])


def difference_in_apgr(
    a: Samples, b: Samples, small: Samples, large: Samples, *, seed: int = 0, replicates: int = REPLICATES
) -> tuple[float, float, float]:
    """APGR of router `a` less that of `b`: (difference, low, high); nan where one of them has none."""
    weighings = _Weighings(large, seed, replicates)
    ends = list(zip(weighings.single(small), weighings.single(large), strict=True))
    differences = _areas(weighings.points(a), ends) - _areas(weighings.points(b), ends)
    return float(differences[0]), *_percentiles(differences[1:])


class RouterMetrics(msgspec.Struct, frozen=True):
    """A router's numbers; what is undefined is None, never nan."""

    apgr: float | None
    apgr_ci: list[float | None]
    cpt50: float | None
    cpt80: float | None
    cpt95: float | None
    aiq: float | None


def summarise(
    routers: Mapping[str, Samples],
    small: Samples,
    large: Samples,
    *,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> dict[str, RouterMetrics]:
    """The metrics of every router.

    AIQ is taken from the small-only to the large-only cost for all routers. APGR is undefined for a router of
    which no setting costs less than the large model: what would be measured is the line between the ends.
    ``apgr_ci`` is undefined, too, if in some resample the large model is not the better and more expensive
    one.
    """
    weighings = _Weighings(large, seed, replicates)
    ends = list(zip(weighings.single(small), weighings.single(large), strict=True))
    small_end, large_end = ends[0]
    metrics: dict[str, RouterMetrics] = {}
    for name, samples in routers.items():
        points = weighings.points(samples)
        areas, drawn = _areas(points, ends), curve(*points[0], small_end, large_end)
        metrics[name] = RouterMetrics(
            apgr=defined(areas[0]),
            apgr_ci=[defined(end) for end in _percentiles(areas[1:])],
            cpt50=defined(cpt(drawn, 0.5, small_end, large_end)),
            cpt80=defined(cpt(drawn, 0.8, small_end, large_end)),
            cpt95=defined(cpt(drawn, 0.95, small_end, large_end)),
            aiq=defined(aiq(drawn, small_end.cost, large_end.cost)),
        )
    return metrics


def _areas(points: Sequence[tuple[Array, Array]], ends: Sequence[tuple[Point, Point]]) -> Array:
    """APGR under every weighing; nan where no setting costs less than the large model."""
    costs, large = points[0][0], ends[0][1]
    if not (costs < large.cost * (1 - ROUNDING)).any():
        return np.full(len(ends), np.nan)
    return np.array([apgr(curve(*each, *pair), *pair) for each, pair in zip(points, ends, strict=True)])


class _Weighings:
    """The problems as they are, then their resamples, applied alike to every router.

    Each weighing has its own large-only cost, the unit of its cost fractions; nan if that is free.
    """

    def __init__(self, large: Samples, seed: int, replicates: int) -> None:
        problems = np.shape(large[0])[-1]
        resampled = resamples(problems, seed, replicates)
        self._weights = np.vstack((np.full(problems, 1 / problems), resampled))
        unit = self._mean(large[1])
        self._unit = np.where(unit > 0, unit, np.nan)

    def points(self, samples: Samples) -> list[tuple[Array, Array]]:
        """(cost fraction [points], accuracy [points]) under every weighing."""
        correct, cost = samples
        return list(zip(self._mean(cost) / self._unit, self._mean(correct), strict=True))

    def single(self, samples: Samples) -> list[Point]:
        """The same for samples with one point."""
        return [Point(cost.item(), accuracy.item()) for cost, accuracy in self.points(samples)]

    def _mean(self, values: ArrayLike) -> Array:
        """[points, problems] or [problems] -> means [weighings, points]."""
        array = np.atleast_2d(np.asarray(values, dtype=np.float64))
        problems = self._weights.shape[1]
        if array.ndim != 2 or array.shape[1] != problems:
            raise ConfigError(
                f"Correct and cost must be [points, {problems} problems], but one is {list(array.shape)}."
            )
        return self._weights @ array.T


def _percentiles(statistics: Array) -> tuple[float, float]:
    low, high = np.percentile(statistics, LEVELS)
    return float(low), float(high)


def defined(value: float) -> float | None:
    """The value, None for nan."""
    return None if math.isnan(value) else float(value)
