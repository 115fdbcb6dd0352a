"""Gymnasium environments that step through a chain of thought. Importing registers them."""

from __future__ import annotations

import gymnasium

from envs.routing import RoutingEnv
from envs.vector import RoutingVectorEnv

__all__ = ["RoutingEnv", "RoutingVectorEnv"]

if "stepwise/Routing-v0" not in gymnasium.registry:
    gymnasium.register(
        id="stepwise/Routing-v0",
        entry_point="envs.routing:RoutingEnv",
        vector_entry_point="envs.vector:RoutingVectorEnv",
    )
