"""SCOPE in front of an engine, where a configuration has a ``scope``."""

from __future__ import annotations

from hydra.utils import instantiate
from omegaconf import DictConfig

from stepwise.engine.engine import Engine
from stepwise.scope.routers import ScopePrior


def with_prior(engine: Engine, cfg: DictConfig) -> tuple[Engine, str]:
    """The engine that asks SCOPE for estimates, and what identifies them; without a ``scope``, the engine as
    it is and ""."""
    if cfg.scope is None:
        return engine, ""
    prior = ScopePrior(instantiate(cfg.scope), engine.models)
    return engine.with_prior(prior), repr(prior)
