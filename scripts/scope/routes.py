"""Routing recorded models by SCOPE's estimates: the frontier, and the setting that anchors choose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from omegaconf import DictConfig

from scripts.scope.records import Outcomes
from stepwise.evaluation import metrics
from stepwise.scope import Scope
from stepwise.scope.decision import sweep


def route(data: Outcomes, scope: Scope, test: Sequence[int], settings: DictConfig) -> dict[str, Any]:
    """The frontier of a pool on the questions of one split, and what the anchors alone would have chosen."""
    pool = [i for i, model in enumerate(data.models) if data.prices[i] and model not in settings.not_in_pool]
    pool = [i for i in pool if not np.isnan(data.correct[i]).any()]
    names = [data.models[i] for i in pool]
    questions = [data.problems[i].question for i in test]
    right = data.correct[pool][:, test]
    rates = np.array([(data.prices[i].input, data.prices[i].output) for i in pool])  # type: ignore[union-attr]
    prompt = np.array([len(question) / 4 for question in questions])
    cost = (prompt * rates[:, :1] + data.tokens[pool][:, test] * rates[:, 1:]) * 1e-6
    columns = np.arange(len(test))
    utilities = scope.utilities(questions, names)

    def outcome(alpha: float) -> dict[str, float]:
        best = utilities(alpha).argmax(axis=0)
        return {
            "alpha": alpha,
            "accuracy": float(right[best, columns].mean()),
            "cost": float(cost[best, columns].mean()),
        }

    anchors = [scope.anchors.place.get(problem.id) for problem in data.problems]
    seen = [i for i, place in enumerate(anchors) if place is not None]
    single = int(np.argmax(data.correct[pool][:, seen].mean(axis=1)))  # the best one as the anchors know it
    target = float(data.correct[pool][:, seen].mean(axis=1).max())
    choices = scope.settings(names)
    enough = [choice for choice in choices if choice.value >= target]
    chosen = min(enough or [max(choices, key=lambda choice: choice.value)], key=lambda choice: choice.cost)
    curve = sweep(outcome, lambda point: point["cost"])
    frontier = metrics.curve([point["cost"] for point in curve], [point["accuracy"] for point in curve])
    best = {"accuracy": float(right[single].mean()), "cost": float(cost[single].mean())}
    reaching = frontier.cost[frontier.accuracy >= best["accuracy"]]
    cheapest = np.where(right > 0, cost, np.inf).min(axis=0)
    return {
        "pool": names,
        "models": dict(zip(names, np.column_stack([cost.mean(1), right.mean(1)]).tolist(), strict=True)),
        "curve": curve,
        "best_single": {"model": names[single], **best},
        "chosen_on_anchors": outcome(chosen.alpha),
        "share_of_cost": float(reaching[0] / best["cost"]) if len(reaching) else None,
        "gap": _widest_gap([point["cost"] for point in curve]),
        "oracle": {
            "accuracy": float(right.max(axis=0).mean()),
            "cost": float(np.where(np.isfinite(cheapest), cheapest, cost.min(axis=0)).mean()),
        },
    }  # fmt: skip


def _widest_gap(costs: Sequence[float]) -> float:
    """The widest step between neighbouring costs of a frontier, as a share of its range."""
    ordered = np.sort(costs)
    width = ordered[-1] - ordered[0]
    return float(np.diff(ordered).max() / width) if width > 0 else 0.0
