"""SCOPE as a router: one model for the whole chain, or the first step of another router's chain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, ClassVar

from stepwise.errors import ConfigError
from stepwise.models.files import list_prices
from stepwise.routers import load_router
from stepwise.scope.anchors import AnchorSet
from stepwise.scope.estimators.base import Charge
from stepwise.scope.fingerprint_store import FingerprintStore
from stepwise.scope.scope import Choice, Scope
from stepwise.types import Decision, Estimate, Look, Router, Trace, expects


def open_scope(anchors: str, fingerprints: str, pair: str | None = None, **settings: Any) -> Scope:
    """A `Scope` from files, as configurations name it.

    Args:
        pair: a YAML file of models, whose list prices are used, see `Scope`.
    """
    if pair is not None:
        settings["prices"] = list_prices(pair)
    return Scope(
        anchors=AnchorSet.load(anchors), fingerprints=FingerprintStore(fingerprints, create=False), **settings
    )


@dataclass(frozen=True)
class ScopeRouter:
    """One model writes the whole chain: the one that SCOPE chooses.

    An estimator that asks a language model needs an engine with a `ScopePrior` of the same scope, so that the
    chain pays for it; the choice is by its estimates.

    Args:
        scope: with fingerprints of all models.
        models: of the pool.
        alpha: 0 looks at cost alone, 1 at correctness alone; by default what `Scope.choose` takes.
        budget: dollars a question, see `Scope.choose`.
    """

    scope: Scope
    models: tuple[str, ...]
    alpha: float | None = None
    name: str = "scope"
    look: Look = "before"
    budget: float | None = None
    whole: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "models", tuple(self.models))

    @property
    def expects(self) -> bool:
        return bool(self.scope.asks)

    @cached_property
    def _choose(self) -> Callable[[str, tuple[Estimate, ...], object], Choice]:
        """By question, estimates and version of the store: a choice does not outlive a change of it."""
        return lru_cache(maxsize=65536)(
            lambda question, known, version: self.scope.choose(
                question, self.models, self.alpha, known, self.budget
            )
        )

    def decide(self, trace: Trace) -> Decision:
        known = trace.estimates if self.expects else ()
        asked = set(self.scope.asks)
        if self.expects and not any(estimate.usage.keys() >= asked for estimate in known):
            raise ConfigError(
                f"router {self.name!r}: its estimates come from model {self.scope.asks[0]!r}; give "
                "the engine prior=ScopePrior(scope, models), so that the chain pays for them."
            )
        choice = self._choose(trace.problem.question, known, self.scope.fingerprints.version)
        chosen = next(estimate for estimate in choice.estimates if estimate.model == choice.model)
        if choice.outside:
            why = "unlike the anchors" + (", within the budget" if self.budget else "")
        else:
            where = "within the budget" if self.alpha is None else f"at alpha {self.alpha:g}"
            why = f"highest score {where} ({choice.utility:.2f})"
        return Decision(choice.model, choice.utility, f"{why}, expected right {chosen.p_correct:.0%}")


@dataclass(frozen=True)
class Seeded:
    """Another router, whose first step is written by the model that SCOPE chooses.

    Where SCOPE names the cheapest model, the router decides as it would have.
    """

    router: Router
    seed: ScopeRouter
    name: str = "seeded"

    @property
    def look(self) -> Look:
        return self.router.look

    @property
    def expects(self) -> bool:
        return self.seed.expects or expects(self.router)

    def decide(self, trace: Trace) -> Decision:
        if not trace.steps:
            first = self.seed.decide(trace)
            if first.model != self.seed.models[0]:
                return replace(first, reason=f"seeded, {first.reason}")
        return self.router.decide(trace)


@dataclass(frozen=True)
class ScopePrior:
    """What an engine asks once a chain, so that routers can see the estimates in the trace.

    The scope is fitted now, which may ask a language model about all anchors: no chain pays for that.
    """

    scope: Scope
    models: tuple[str, ...]

    def __post_init__(self) -> None:
        _ = self.scope.known

    @property
    def asks(self) -> tuple[str, ...]:
        return self.scope.asks

    def __call__(self, question: str, charge: Charge) -> tuple[Estimate, ...]:
        return tuple(self.scope.estimate(question, self.models, charge))


def seeded(policy: str, threshold: float, scope: Scope, models: Sequence[str], alpha: float) -> Seeded:
    """A learned policy by name or folder, seeded; as configurations name it."""
    inner = load_router(policy, threshold=threshold)
    return Seeded(inner, ScopeRouter(scope, tuple(models), alpha))
