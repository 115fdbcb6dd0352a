"""Roles: a configuration of routers names no models, only who plays which part in a pool.

"small" is the cheapest model of the pool and "large" the most expensive one, whatever the pair calls them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from stepwise.routers.policy import PolicyRouter

PARTS = ("model", "models", "small", "large")
"""Fields of a router or scorer that name models."""
R = TypeVar("R")


def in_pool(router: R, models: Sequence[str]) -> R:
    """The router, or scorer, with the models of a pool in its roles; a policy has models of its own.

    Args:
        models: names, cheapest first.
    """
    if isinstance(router, PolicyRouter) or not is_dataclass(router):
        return router
    values = {field.name: getattr(router, field.name) for field in fields(router)}
    played = {
        name: _named(value, models) if name in PARTS else in_pool(value, models)
        for name, value in values.items()
    }
    changes = {name: value for name, value in played.items() if value is not values[name]}
    return replace(router, **changes) if changes else router  # type: ignore[type-var]


def _named(value: Any, models: Sequence[str]) -> Any:
    if isinstance(value, tuple):
        return tuple(_named(name, models) for name in value)
    return {"small": models[0], "large": models[-1]}.get(value, value)
