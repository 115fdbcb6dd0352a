"""Routers that choose by SCOPE's estimates, over all models of a pair."""

from __future__ import annotations

from dataclasses import dataclass

from stepwise.models.pair import Pair
from stepwise.scope import Scope
from stepwise.scope.routers import ScopeRouter, Seeded
from stepwise.types import Router


@dataclass(frozen=True)
class ShowingScope(ScopeRouter):
    """Chooses by the estimates that the chain carries, so that an answer can say what was expected. Its
    engine needs a `ScopePrior`."""

    @property
    def expects(self) -> bool:
        return True


def scoped_router(scope: Scope, pair: Pair, alpha: float, policy: Router | None) -> Router:
    """SCOPE alone, or as the seed of a policy.

    Raises:
        ConfigError: if a model has no fingerprint, or no price there.
    """
    models = tuple(model.name for model in pair.models)
    router = ShowingScope(scope, models, alpha)
    scope.choose("How much is 1 + 1?", models, alpha)
    return router if policy is None else Seeded(policy, router)
