"""Routers that choose by SCOPE's estimates, from the command line."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from stepwise.errors import ConfigError
from stepwise.models.pair import Pair
from stepwise.routers.named import named_router
from stepwise.scope import Scope
from stepwise.scope.routers import ScopeRouter, Seeded
from stepwise.types import Router

SCOPED = ("scope", "seeded")
"""One model for the whole chain; a policy whose first step is written by the model that SCOPE chooses."""
ALPHA = 0.5


@dataclass(frozen=True)
class ShowingScope(ScopeRouter):
    """Chooses by the estimates that the chain carries, so that an answer can say what was expected. Its
    engine needs a `ScopePrior`."""

    @property
    def expects(self) -> bool:
        return True


def add_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--anchors", help="SCOPE's anchors.json, for --router scope or seeded and for the page's estimates")
    add("--fingerprints", help="SCOPE's store of fingerprints on those anchors")
    add(
        "--alpha",
        type=float,
        help=f"of scope and seeded: 0 looks at cost alone, 1 at correctness (default: {ALPHA})",
    )
    add("--policy", default="nano-ppo", help="what continues a seeded chain (default: %(default)s)")


def check(options: argparse.Namespace) -> None:
    """Refuse options that do not go together.

    Raises:
        ConfigError: the sentence names them.
    """
    if (options.anchors is None) != (options.fingerprints is None):
        raise ConfigError("anchors and fingerprints: pass both, or neither.")
    if options.router not in SCOPED:
        if options.alpha is not None:
            raise ConfigError(f"alpha: the router {options.router!r} has none; use {' or '.join(SCOPED)}.")
        return
    if options.anchors is None:
        raise ConfigError(
            f"router {options.router!r} needs --anchors and --fingerprints, "
            "which `python -m scripts.fingerprint` makes."
        )
    if options.alpha is not None and not 0 <= options.alpha <= 1:
        raise ConfigError(f"alpha must lie in [0, 1], not {options.alpha:g}.")
    targets = ("budget", "threshold", "max_accuracy_loss")
    wrong = [name for name in targets if getattr(options, name) is not None]
    if options.router == "scope" and wrong:
        raise ConfigError(f"{wrong[0]}: the router 'scope' takes an alpha; requests may set a budget.")


def scoped_router(options: argparse.Namespace, pair: Pair, scope: Scope) -> Router:
    """The router, over all models of the pair.

    Raises:
        ConfigError: if a model has no fingerprint or no price there, or the policy cannot route the pair.
    """
    models = tuple(model.name for model in pair.models)
    router = ShowingScope(scope, models, ALPHA if options.alpha is None else options.alpha)
    scope.choose("How much is 1 + 1?", models, router.alpha)
    if options.router == "scope":
        return router
    policy = named_router(
        options.policy, pair, budget=options.budget, max_accuracy_loss=options.max_accuracy_loss,
        threshold=options.threshold,
    )  # fmt: skip
    return Seeded(policy, router)
