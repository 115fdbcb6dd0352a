"""The experiments of SCOPE's anatomy: each takes a split apart in one way, and gives numbers by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hydra.utils import instantiate
from scipy.stats import kendalltau

from scripts.scope.cut import Cut, area, cut
from scripts.scope.measures import Array
from scripts.scope.records import Outcomes
from scripts.scope.rivals import RIVALS, two_models
from stepwise.evaluation import metrics
from stepwise.evaluation.metrics import Point
from stepwise.scope.decision import GAMMA_BASE, W_BASE, CostScale, net_value, sweep, utility
from stepwise.scope.estimators import Beliefs, Combination, Neighbours

Numbers = dict[str, float]
GAMMAS = (0.5, 1.0, 2.0, 4.0)
"""Tried beside the weights where both are learned."""
NO_ANSWER = 1e6
"""Of what the dearest model costs: nobody chooses a model without an answer."""


@dataclass(frozen=True)
class Ground:
    """A data set, and how this split draws from it.

    Attributes:
        order: places of the questions; anchors come first, scored questions last.
        pool: models that have a price, for routing.
    """

    data: Outcomes
    order: Sequence[int]
    settings: Mapping[str, Any]
    pool: Sequence[int]

    def cut(self, anchors: int | None = None, models: Sequence[int] | None = None) -> Cut:
        count = anchors or self.settings["anchor_count"]
        spare = len(self.order) - max(count, self.settings["anchor_count"])
        test = self.order[-min(spare, self.settings["test_count"]) :]
        rows = range(len(self.data.models)) if models is None else models
        return cut(self.data, self.order[:count], test, list(rows), self.settings["contested"])

    def routed(self) -> Cut:
        return self.cut(models=self.pool)


def estimators(ground: Ground) -> Numbers:
    """Areas of every estimator, and of the rivals' predictions."""
    here = ground.cut()
    values = {
        name: here.beliefs(instantiate(made.estimator)).value
        for name, made in ground.settings["estimators"].items()
        if made.embedder == "tfidf" and not made.auxiliary
    }
    values |= {name: learn(here) for name, learn in RIVALS.items()}
    return {f"{name}, {which}": a for name, value in values.items() for which, a in here.auc(value).items()}


def sizes(ground: Ground) -> Numbers:
    """Areas by the number of anchors, on the same questions."""
    usable = [n for n in ground.settings["sizes"] if n <= len(ground.order) - 50]
    last = ground.order[-min(len(ground.order) - max(usable), ground.settings["test_count"]) :]
    rows, contested = range(len(ground.data.models)), ground.settings["contested"]
    out: Numbers = {}
    for n in usable:
        here = cut(ground.data, ground.order[:n], last, list(rows), contested)
        out |= {f"{n}, {which}": a for which, a in here.auc(here.beliefs(Combination()).value).items()}
    return out


def neighbours(ground: Ground) -> Numbers:
    """Areas by the number of neighbours."""
    here = ground.cut()
    return {
        f"{k}, {which}": a
        for k in ground.settings["neighbours"]
        for which, a in here.auc(here.beliefs(Neighbours(k)).value).items()
    }


def stress(ground: Ground) -> Numbers:
    """How often the harder of two questions is told, when they read alike and when they do not.

    Pairs differ by at least half in the share of models that are right. Alike: each other's most similar of
    the scored questions, or nearly (the top percentile of similarity).
    """
    here = ground.cut()
    share = np.nanmean(here.value, axis=0)
    expected = here.beliefs(Combination()).value.mean(axis=0)
    vectors = here.compared.similarity
    norm = np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9
    similarity = (vectors / norm) @ (vectors / norm).T
    first, second = np.triu_indices(len(share), 1)
    clear = np.abs(share[first] - share[second]) >= 0.5
    first, second = first[clear], second[clear]
    near = similarity[first, second] >= np.quantile(similarity[np.triu_indices(len(share), 1)], 0.99)
    right = (expected[first] > expected[second]) == (share[first] > share[second])
    return {
        "alike, ordered rightly": float(right[near].mean()) if near.any() else float("nan"),
        "others, ordered rightly": float(right[~near].mean()),
        "alike, pairs": float(near.sum()),
    }


def ranking(ground: Ground) -> Numbers:
    """Whether the order of the models survives: on the whole, and question by question."""
    here = ground.cut()
    value = here.beliefs(Combination()).value
    right = np.nan_to_num(here.value, nan=0.5)
    wins = [
        (value[a] > value[b])[(right[a] > 0.5) & (right[b] < 0.5)]
        for a in here.rows
        for b in here.rows
        if a != b
    ]
    seen = ~np.isnan(here.value)
    expected = np.where(seen, value, 0).sum(axis=1) / seen.sum(axis=1)
    by_mean = [here.known.mean[a] > here.known.mean[b] for a in here.rows for b in here.rows if a != b]
    weights = [len(w) for w in wins]
    return {
        "Kendall's tau of the models' accuracy": float(kendalltau(expected, np.nanmean(here.value, 1))[0]),
        "the right one of two preferred": float(np.concatenate(wins).mean()),
        "the right one of two preferred, by means alone": float(np.average(by_mean, weights=weights)),
    }


def families(ground: Ground) -> Numbers:
    """Areas for one model of each family, known by its anchors, with its siblings in the store and without.

    A family is the first word of a name: whoever trained it.
    """
    names = [re.match(r"[a-z]+", name.lower().removeprefix("meta-")) for name in ground.data.models]
    family = [match[0] if match else "" for match in names]
    shared = [name for name in dict.fromkeys(family) if family.count(name) > 1]
    areas: dict[str, list[float]] = {"with siblings": [], "siblings left out": []}
    whole = ground.cut()
    joint = whole.beliefs(Combination()).value
    for name in shared:
        own = [row for row, its in enumerate(family) if its == name]
        rest = [row for row, its in enumerate(family) if its != name]
        here = ground.cut(models=[*rest, own[0]])
        row = here.known.models.index(ground.data.models[own[0]])
        before = whole.known.models.index(ground.data.models[own[0]])
        alone = here.beliefs(Combination()).value[row]
        areas["siblings left out"].append(area(here.value[row], alone))
        areas["with siblings"].append(area(whole.value[before], joint[before]))
    return {name: float(np.nanmean(values)) if values else float("nan") for name, values in areas.items()}


def weight(ground: Ground) -> Numbers:
    """Area under the frontier and its widest gap, by the weight of the anchors' record, and with costs
    normalised as the released code does."""
    here = ground.routed()
    record, predicted = here.beliefs(Neighbours()), here.beliefs(Combination())
    costs = [here.known.cost(b.tokens, here.compared.questions, here.rows) for b in (record, predicted)]
    out: Numbers = {}
    for w in ground.settings["weights"]:
        for scale in ("log", "linear"):
            points = _frontier(here, record.value, costs[0], predicted.value, costs[1], w, scale)
            area_, gap = frontier_area(here, points), widest_gap(points)
            out |= {f"{w:g}, {scale}, area": area_, f"{w:g}, {scale}, gap": gap}
    return out


def learned(ground: Ground) -> Numbers:
    """w and gamma with the largest area on the anchors, each routed by held-out predictions, against the
    fixed ones, on the other questions."""
    here = ground.routed()
    record, predicted = Neighbours().fit(here.known), Combination().fit(here.known)
    anchors = replace(here, compared=here.known.among, value=here.known.value, tokens=here.known.tokens)

    def area_of(cut_: Cut, near: Beliefs, ahead: Beliefs, w: float, gamma: float) -> float:
        costs = [cut_.known.cost(b.tokens, cut_.compared.questions, cut_.rows) for b in (near, ahead)]
        points = _frontier(cut_, near.value, costs[0], ahead.value, costs[1], w, gamma=gamma)
        return frontier_area(cut_, points)

    held = record.held_out(), predicted.held_out()
    new = (part.predict(here.compared, here.rows) for part in (record, predicted))
    near, ahead = new
    tried = [(w, gamma) for w in ground.settings["weights"] for gamma in GAMMAS]
    w, gamma = max(tried, key=lambda pair: area_of(anchors, *held, *pair))
    fixed, best = (area_of(here, near, ahead, *pair) for pair in ((W_BASE, GAMMA_BASE), (w, gamma)))
    return {
        "area, fixed": fixed,
        "area, learned": best,
        "learned less fixed": best - fixed,
        "w": w,
        "gamma": gamma,
    }


def portfolio(ground: Ground) -> Numbers:
    """Share of the questions that each model answers as alpha moves, and what that gives."""
    here = ground.routed()
    predicted = here.beliefs(Combination())
    cost, dearest = here.known.cost(predicted.tokens, here.compared.questions, here.rows), _dearest(here)
    out: Numbers = {}
    for alpha in ground.settings["alphas"]:
        scores = net_value(predicted.value, cost, alpha, dearest)
        taken = np.bincount(scores.argmax(axis=0), minlength=len(here.rows)) / scores.shape[1]
        out |= {f"{alpha:g}, {name}": share for name, share in zip(here.known.models, taken, strict=True)}
        out[f"{alpha:g}, models in use"] = float(np.exp(-(taken[taken > 0] * np.log(taken[taken > 0])).sum()))
    return out


def savings(ground: Ground) -> Numbers:
    """Tokens and accuracy of one chosen model (alpha 1), against asking all, or one n times."""
    here = ground.routed()
    taken = here.beliefs(Combination()).value.argmax(axis=0)
    columns = np.arange(len(taken))
    right, tokens = np.nan_to_num(here.value), here.tokens
    mean = np.nanmean(tokens, axis=1)
    best = int(np.argmax(here.known.mean))
    chosen = float(np.nanmean(tokens[taken, columns]))
    return {
        "accuracy, chosen": float(right[taken, columns].mean()),
        "accuracy, best single": float(right[best].mean()),
        "accuracy, any of all right": float(right.max(axis=0).mean()),
        "tokens, chosen": chosen,
        "tokens saved against asking all": 1 - chosen / float(mean.sum()),
        "tokens saved against the best one 4 times": 1 - chosen / float(4 * mean[best]),
    }


def rivals(ground: Ground) -> Numbers:
    """Areas under the frontiers of routers that were given the same anchors, on one range of costs."""
    here = ground.routed()
    usual = np.nanmean(here.known.spent(here.rows), axis=1)
    strong, cheap = int(np.argmax(here.known.mean)), int(np.argmin(usual))
    affordable = [row for row in here.rows if usual[row] <= 0.2 * usual[strong]] or [cheap]
    weak = max(affordable, key=lambda row: float(here.known.mean[row]))
    record, predicted = here.beliefs(Neighbours()), here.beliefs(Combination())
    costs = [here.known.cost(b.tokens, here.compared.questions, here.rows) for b in (record, predicted)]
    frontiers = {
        "SCOPE": net(here, predicted.value, costs[1]),
        "SCOPE, the paper's utility": _frontier(here, record.value, costs[0], predicted.value, costs[1]),
        **{name: net(here, learn(here), usual[:, None]) for name, learn in RIVALS.items()},
        "two models": _two(here, two_models(here, strong, weak), strong, weak),
        "oracle": net(here, np.nan_to_num(here.value), here.cost),
        "random mix of the cheapest and the best": [],
    }
    return {f"{name}, area": frontier_area(here, points) for name, points in frontiers.items()} | {
        f"{name}, best accuracy": max((p.accuracy for p in points), default=float("nan"))
        for name, points in frontiers.items()
    }


def _frontier(
    here: Cut,
    near: Array,
    near_cost: Array,
    value: Array,
    cost: Array,
    w: float = W_BASE,
    scale: CostScale = "log",
    gamma: float = GAMMA_BASE,
) -> list[Point]:
    def at(alpha: float) -> Point:
        return outcome(here, utility(near, near_cost, value, cost, alpha, w, scale, gamma).argmax(axis=0))

    return sweep(at, lambda point: point.cost)


def net(here: Cut, value: Array, cost: Array) -> list[Point]:
    """As a `Scope` routes unless told otherwise, from what is expected of the models."""
    dearest = _dearest(here)
    cost = np.nan_to_num(cost, nan=NO_ANSWER * dearest)
    return sweep(
        lambda alpha: outcome(here, net_value(value, cost, alpha, dearest).argmax(axis=0)),
        lambda point: point.cost,
    )


def _dearest(here: Cut) -> float:
    return float(np.nanmean(here.known.spent(here.rows), axis=1).max())


def _two(here: Cut, need: Array, strong: int, weak: int) -> list[Point]:
    levels = [np.inf, *np.quantile(need, np.linspace(0, 1, 51)).tolist()]
    return [outcome(here, np.where(need >= level, strong, weak)) for level in levels]


def outcome(here: Cut, taken: Any) -> Point:
    columns = np.arange(len(taken))
    cost, right = here.cost[taken, columns], np.nan_to_num(here.value)[taken, columns]
    return Point(float(np.nanmean(cost)), float(right.mean()))


def frontier_area(here: Cut, points: Sequence[Point]) -> float:
    """Mean accuracy from the cheapest model's cost to the best one's; both are on offer in every frontier."""
    alone = [
        Point(float(np.nanmean(here.cost[row])), float(np.nanmean(here.value[row]))) for row in here.rows
    ]
    cheapest, best = min(alone), alone[int(np.argmax(here.known.mean))]
    if not cheapest.cost < best.cost:
        return float("nan")
    costs, right = zip(*(*points, cheapest, best), strict=True)
    return metrics.aiq(metrics.curve(costs, right), cheapest.cost, best.cost)


def widest_gap(points: Sequence[Point]) -> float:
    """Between neighbouring costs, as a share of their range."""
    costs = np.sort([point.cost for point in points])
    width = costs[-1] - costs[0]
    return float(np.diff(costs).max() / width) if width > 0 else 0.0


PARTS: Mapping[str, Callable[[Ground], Numbers]] = {
    "estimators": estimators,
    "sizes": sizes,
    "neighbours": neighbours,
    "stress": stress,
    "ranking": ranking,
    "families": families,
    "weight": weight,
    "learned": learned,
    "portfolio": portfolio,
    "savings": savings,
    "rivals": rivals,
}
