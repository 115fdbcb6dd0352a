"""Logged chains as arrays: what each decision cost, and how much likelier another router makes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from stepwise.errors import ConfigError, NoSignal
from stepwise.evaluation.logged.chains import LoggedChain, LoggedStep, seen_traces
from stepwise.routers import PolicyRouter
from stepwise.routers.features import QUESTION, SIGNALS, observe
from stepwise.types import Router, Trace, named

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Weighed:
    """Chains [n] of at most T decisions. Behind a chain's end ratios are 1 and everything else 0.

    Attributes:
        ratio: [n, T], the target's probability of what was done over the log's.
        cost: [n, T], in the log's unit.
        alive: [n, T], whether there was a decision.
        barred: [n, T], how likely the target does what the log never could have.
        features: [n, T, F], of what the router saw, the first one 1.
        taken: [n, T], numbers of the models that wrote.
        target: [n, T, models], the target's probabilities.
        correct: [n], nan where nobody said.
        alone: [n], what the most expensive model alone would have cost.
    """

    ratio: Array
    cost: Array
    alive: NDArray[np.bool_]
    barred: Array
    features: Array
    taken: NDArray[np.int64]
    target: Array
    correct: Array
    alone: Array

    def __len__(self) -> int:
        return len(self.ratio)

    def last(self, numbers: Array) -> Array:
        """Numbers [n] as rewards [n, T] that come with the last decision."""
        rewards = np.zeros_like(self.cost)
        rewards[np.arange(len(self)), self.alive.sum(1) - 1] = numbers
        return rewards

    def rows(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Weighed:
        """Some of the chains, by number or by mask."""
        return Weighed(*(getattr(self, field.name)[chosen] for field in fields(self)))


def usable(chains: Iterable[LoggedChain]) -> list[LoggedChain]:
    """Chains whose every step was written by the model that was drawn for it."""
    return [
        chain
        for chain in chains
        if chain.steps and not chain.degraded and all(step.decided is not None for step in chain.steps)
    ]


def weigh(chains: Sequence[LoggedChain], router: Router, *, exploring: bool = False) -> Weighed:
    """What a router would have decided on `usable` chains.

    Args:
        router: reads no text; it looks when the log's router looked, or is a model's name.
        exploring: the target is the router with as many of its decisions drawn as of the logged one's. Its
            chains are far more like the log's than those of the router by itself.

    Raises:
        ConfigError: if there is no chain, the chains are of different pools or units, or the log does not
            hold what the router reads.
    """
    check(chains, router)
    models, longest = chains[0].models, max(len(chain.steps) for chain in chains)
    n, width = len(chains), len(SIGNALS) + 1
    ratio = np.ones((n, longest))
    cost, barred = np.zeros((2, n, longest))
    alive, taken = np.zeros((n, longest), bool), np.zeros((n, longest), np.int64)
    target = np.zeros((n, longest, len(models)))
    features = np.zeros((n, longest, width))
    for i, chain in enumerate(chains):
        for t, (step, decided, trace) in enumerate(seen_traces(chain)):
            wanted = _known(router.decide(trace).model, models)
            logged = np.array([decided.chances.get(model, 0.0) for model in models])
            number = taken[i, t] = models.index(step.model)
            before = models.index(decided.wanted) if exploring else None
            target[i, t] = _target(logged, models.index(wanted), before)
            ratio[i, t] = target[i, t, number] / logged[number]
            cost[i, t] = _cost(step, router)
            alive[i, t], barred[i, t] = True, target[i, t, logged == 0].sum()
            features[i, t] = _features(trace, models)
        cost[i, len(chain.steps) - 1] += chain.cost - sum(step.cost for step in chain.steps)
    correct = np.array([np.nan if chain.correct is None else chain.correct for chain in chains])
    alone = np.array([chain.alone for chain in chains])
    return Weighed(ratio, cost, alive, barred, features, taken, target, correct, alone)


def _target(logged: Array, wanted: int, before: int | None) -> Array:
    """The target's probabilities by model: its choice alone; or the log's, with the two choices exchanged."""
    if before is None:
        alone: Array = np.eye(len(logged))[wanted]
        return alone
    chances = logged.copy()
    chances[[wanted, before]] = logged[[before, wanted]]
    return chances


def check(chains: Sequence[LoggedChain], router: Router | None) -> None:
    """Refuse chains that are not of one kind, and a router that their log cannot speak of.

    Raises:
        ConfigError: see `weigh`.
    """
    if not chains:
        raise ConfigError("log: it holds no finished chain with all its decisions.")
    if len({(chain.models, chain.unit, chain.look, chain.shadow) for chain in chains}) > 1:
        raise ConfigError(
            "log: chains differ in models, unit, what the router looked at, or shadow: report on one kind."
        )
    look = chains[0].look
    if router is None:
        return
    if (not named(router) and router.look != look) or (named(router) and look == "judged"):
        raise ConfigError(
            f"router {router.name!r} looks {router.look!r}, the log's looked {look!r}: the log does not "
            "hold what such a look shows and costs."
        )
    reads = isinstance(router, PolicyRouter) and not set(QUESTION).isdisjoint(router.artifact.features)
    if reads and not all(chain.question for chain in chains):
        raise ConfigError(f"router {router.name!r} reads questions, and the log has none (--log-prompts).")


def _known(model: str, models: Sequence[str]) -> str:
    if model not in models:
        raise ConfigError(f"router: it chooses {model!r}, the log's models are {', '.join(models)}.")
    return model


def _cost(step: LoggedStep, router: Router) -> float:
    """A model that is named drafts nothing for another to replace."""
    return step.cost - (step.looking if named(router) else 0.0)


def _features(trace: Trace, models: Sequence[str]) -> NDArray[np.float32]:
    try:
        seen = observe(trace, models[0], models[-1])
    except NoSignal:
        seen = np.zeros(len(SIGNALS), np.float32)
    return np.append(np.float32(1.0), seen)
