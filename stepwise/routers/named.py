"""From a name on the command line to a router."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stepwise.errors import ConfigError
from stepwise.models.pair import Pair
from stepwise.routers.fixed import Always
from stepwise.routers.own import installed, is_own, own_router
from stepwise.routers.policy import SHIPPED, PolicyRouter, load_router
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


def check_known(name: str, models: Sequence[str] = ()) -> None:
    """Refuse the name of no router, and say what there is.

    Args:
        models: whose names are routers too.

    Raises:
        ConfigError: if it is none.
    """
    if name in RULES or name in SHIPPED or is_own(name) or Path(name).is_dir():
        return
    names = ", ".join([*SHIPPED, *RULES, *models, *installed()])
    raise ConfigError(f"router must be one of {names}, a policy's folder, or module:Class, not {name!r}.")


def named_router(
    name: str,
    pair: Pair,
    *,
    budget: float | None = None,
    max_accuracy_loss: float | None = None,
    threshold: float | None = None,
    unit: str | None = None,
    estimates: bool = False,
) -> Router:
    """A model's name, a rule of `RULES`, a policy that was trained on the pair, or a router of one's own.

    Args:
        unit: of the costs that are counted.
        estimates: whether SCOPE is asked before a chain begins.

    Raises:
        ConfigError: if there is no such router, it cannot route the pair, it observes estimates that there
            are not, its knob is another, or so is the unit that it was trained to keep down.
        InfeasibleTarget: if no threshold can be promised to meet the targets.
    """
    if pool(name, pair) is not None:
        return Always(name)
    loaded = pair.select()
    check_known(name, [model.name for model in pair.models])
    if is_own(name):
        if budget is not None or max_accuracy_loss is not None:
            raise ConfigError(f"router {name!r} is not calibrated and takes no budget; pass --threshold.")
        return own_router(name, threshold, [model.name for model in loaded])
    if name not in RULES:
        if budget is max_accuracy_loss is threshold is None:
            budget = DEFAULT_BUDGET
        policy = load_router(name, budget=budget, max_accuracy_loss=max_accuracy_loss, threshold=threshold)
        policy.check(pair, unit=unit)
        if policy.expects and not estimates:
            raise ConfigError(
                f"router {name!r} observes SCOPE's estimates, which `stepwise serve` asks for where it is "
                "given --anchors and --fingerprints."
            )
        return policy
    if threshold is None:
        raise ConfigError(f"router {name!r} is not calibrated; pass --threshold (in nats), for example 1.0.")
    if not getattr(loaded[0].options, "logprobs", True):
        raise ConfigError(
            f"router {name!r} reads log-probabilities, which model {loaded[0].name!r} does not give; set "
            "logprobs: true among its backend's options if the server returns them."
        )
    return ThresholdRouter(RULES[name], threshold, name, small=loaded[0].name, large=loaded[-1].name)


def promised(
    router: Router, budget: float | None, max_accuracy_loss: float | None, threshold: float | None
) -> float | None:
    """The budget that a router of `named_router` keeps on average, if it keeps one."""
    if not isinstance(router, PolicyRouter) or threshold is not None:
        return None
    return DEFAULT_BUDGET if budget is max_accuracy_loss is None else budget
