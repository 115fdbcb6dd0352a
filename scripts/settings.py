"""Settings that several programs share; each program's own are in a dataclass beside it.

A field of type Any holds what ``hydra.utils.instantiate`` builds, from a group of ``configs/``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from stepwise.engine.engine import Engine
from stepwise.errors import ConfigError
from stepwise.models.model import Choice
from stepwise.models.pair import Pair
from stepwise.store.opening import open_store

RECORDED = "${oc.env:STEPWISE_DATA,../shared/data}"
"""The folder of recorded solutions and of local copies of benchmarks."""


@dataclass
class Pool:
    """Models that run."""

    pair: Any = MISSING
    backend: Any = "transformers"  # of models that name none; also {name: vllm, dtype: bfloat16, ...}
    store: str = "outputs/steps.db"  # completions seen before, in a file or at redis://HOST:PORT/0


@dataclass
class Solving(Pool):
    """Models that solve problems."""

    dataset: Any = MISSING


@dataclass
class Routing(Solving):
    """Models that share their work, and what it costs."""

    models: list[str] | None = None  # of the pair, cheapest first; null: the smallest and the largest
    cost: str = "flops"  # or tokens, dollars or seconds


def check_counts(cfg: DictConfig, *names: str) -> None:
    """Refuse settings, named as on the command line, that must be whole numbers of at least 1 and are not.

    Raises:
        ConfigError: naming the first.
    """
    for name in names:
        if (value := OmegaConf.select(cfg, name)) < 1:
            raise ConfigError(f"{name} must be at least 1, not {value}.")


def backend_of(cfg: DictConfig) -> Choice:
    """The backend of models that name none, as `stepwise.Pair.engine` takes it."""
    if isinstance(cfg.backend, str):
        return cfg.backend
    options: Any = OmegaConf.to_container(cfg.backend, resolve=True)
    return dict(options)


def engine_of(cfg: DictConfig, pair: Pair, **sampling: Any) -> Engine:
    """The engine over a pair that the settings of `Routing` describe."""
    return pair.engine(
        backend=backend_of(cfg), models=cfg.models, cost=cfg.cost, store=open_store(cfg.store), **sampling
    )
