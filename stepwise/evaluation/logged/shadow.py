"""What a router would have saved where one model answered everything and the router only watched.

A shadow's chains are the fixed model's: what another model would have gone on to write after a step of its
own was never written. So only this can be said: what the decisions would have cost had the rest of each chain
stayed as it is, and the accuracy of those chains in which the router wanted nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stepwise.evaluation.logged.chains import LoggedChain, LoggedStep, seen_traces
from stepwise.evaluation.logged.estimators import LEVELS, REPLICATES, Value
from stepwise.evaluation.logged.weighed import Array, check
from stepwise.types import Router


@dataclass(frozen=True)
class Shadowed:
    """A router beside the model that answered.

    Attributes:
        chains: with all their decisions.
        cost: mean of a chain, as it was answered.
        share: what the router would have cost, as a fraction of that, had each chain stayed as it is.
        handed: share of the decisions that go to another model than the one that answered.
        agreed: share of the chains in which none does; the router's answers there are those that were given.
        accuracy: between what the judged chains leave possible: those that differ all wrong, or all right;
            None where nobody judged any.
    """

    chains: int
    cost: float
    share: Value
    handed: float
    agreed: float
    accuracy: tuple[float, float] | None


def shadowed(chains: Sequence[LoggedChain], router: Router | None = None, *, seed: int = 0) -> Shadowed:
    """Put a router's decisions beside what was answered.

    Args:
        chains: all decided, of one shadow.
        router: takes the decisions anew; those that are logged count unless given.

    Raises:
        ConfigError: if there are none, or the log does not hold what the router reads.
    """
    check(chains, router)
    wanted = [_wanted(chain, router) for chain in chains]
    fixed = np.array([chain.cost for chain in chains])
    routed = np.array([_routed(chain, models) for chain, models in zip(chains, wanted, strict=True)])
    same = np.array([set(models) <= {chain.shadow} for chain, models in zip(chains, wanted, strict=True)])
    other = [model != chain.shadow for chain, models in zip(chains, wanted, strict=True) for model in models]
    return Shadowed(
        len(chains), float(fixed.mean()), _share(routed, fixed, seed), float(np.mean(other)),
        float(same.mean()), _accuracy(chains, same),
    )  # fmt: skip


def _wanted(chain: LoggedChain, router: Router | None) -> list[str]:
    if router is None:
        return [step.decided.wanted for step in chain.steps if step.decided is not None]
    return [router.decide(trace).model for _, _, trace in seen_traces(chain)]


def _routed(chain: LoggedChain, wanted: Sequence[str]) -> float:
    """What the decisions would have cost, with every step as long as it is: a model pays for reading what
    others wrote since it wrote last."""
    total = chain.cost - sum(step.cost for step in chain.steps)
    unread = dict.fromkeys(chain.models, chain.prompt_tokens)
    for step, model in zip(chain.steps, wanted, strict=True):
        total += step.looking + _written(chain, step, model, unread[model])
        unread = {name: 0 if name == model else tokens + step.length for name, tokens in unread.items()}
    return total


def _written(chain: LoggedChain, step: LoggedStep, model: str, unread: int) -> float:
    """What a step costs beside its draft."""
    reading, writing = chain.prices[model]
    if model == chain.models[0] and step.decided is not None and step.decided.draft is not None:
        return writing * max(step.length - 1, 0) if chain.look == "probe" else 0.0
    if model == chain.shadow:  # as it was; the prompt it read with its first step
        return step.cost + reading * (unread - (chain.prompt_tokens if step is chain.steps[0] else 0))
    return reading * unread + writing * step.length


def _share(routed: Array, fixed: Array, seed: int) -> Value:
    """Ratio of means, with a percentile bootstrap over chains."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(fixed), np.full(len(fixed), 1 / len(fixed)), REPLICATES)
    low, high = np.percentile((counts @ routed) / (counts @ fixed), LEVELS)
    return Value(float(routed.mean() / fixed.mean()), (float(low), float(high)))


def _accuracy(chains: Sequence[LoggedChain], same: NDArray[np.bool_]) -> tuple[float, float] | None:
    judged = np.array([chain.correct is not None for chain in chains])
    if not judged.any():
        return None
    correct = np.array([chain.correct for chain in chains if chain.correct is not None])
    at_least, at_most = (np.where(same[judged], correct, other).mean() for other in (0.0, 1.0))
    return float(at_least), float(at_most)
