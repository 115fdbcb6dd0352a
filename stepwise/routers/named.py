"""From a name on the command line to a router."""

from __future__ import annotations

from stepwise.errors import ConfigError
from stepwise.models.pair import Pair
from stepwise.routers.fixed import Always
from stepwise.routers.policy import load_router
from stepwise.routers.threshold import Confidence, FirstTokenEntropy, Scorer, ThresholdRouter
from stepwise.types import Router

RULES: dict[str, Scorer] = {"confidence": Confidence(), "entropy": FirstTokenEntropy()}
"""Rules that route any pair without training. Their thresholds are in nats, and nothing promises what they
cost: see ``configs/router`` for the range to try, and `scripts.train` for a policy that can promise."""


DEFAULT_BUDGET = 0.4
"""Of a policy, where nothing else is asked of it."""


def pool(name: str, pair: Pair) -> list[str] | None:
    """Models to load for a router, None for the pair's usual ones: a model that is named comes along."""
    names = [model.name for model in pair.models]
    return [names[0], name, names[-1]] if name in names else None


def named_router(
    name: str,
    pair: Pair,
    *,
    budget: float | None = None,
    max_accuracy_loss: float | None = None,
    threshold: float | None = None,
    unit: str | None = None,
) -> Router:
    """A model's name, a rule of `RULES`, or a policy that was trained on the pair.

    Args:
        unit: of the costs that are counted.

    Raises:
        ConfigError: if there is no such router, it cannot route the pair, its knob is another, or so is the
            unit that it was trained to keep down.
        InfeasibleTarget: if no threshold can be promised to meet the targets.
    """
    if pool(name, pair) is not None:
        return Always(name)
    if name not in RULES:
        if budget is max_accuracy_loss is threshold is None:
            budget = DEFAULT_BUDGET
        policy = load_router(name, budget=budget, max_accuracy_loss=max_accuracy_loss, threshold=threshold)
        policy.check(pair, unit=unit)
        return policy
    if threshold is None:
        raise ConfigError(f"router {name!r} is not calibrated; pass --threshold (in nats), for example 1.0.")
    loaded = pair.select()
    if not getattr(loaded[0].options, "logprobs", True):
        raise ConfigError(
            f"router {name!r} reads log-probabilities, which model {loaded[0].name!r} does not give; set "
            "logprobs: true among its backend's options if the server returns them."
        )
    return ThresholdRouter(RULES[name], threshold, name, small=loaded[0].name, large=loaded[-1].name)
