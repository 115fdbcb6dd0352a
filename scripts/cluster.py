"""Where the chains of a program are made: in this process, or with ``cluster=ray`` on a cluster's workers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from scripts.prior import with_prior
from scripts.settings import backend_of
from stepwise.cluster.pool import Pool
from stepwise.cluster.settings import ClusterSettings
from stepwise.cluster.worker import Recipe, Service
from stepwise.engine.concurrency import run
from stepwise.errors import ConfigError
from stepwise.evaluation.grader import Grader
from stepwise.evaluation.solver import Here, OnCluster, Solver, Traces
from stepwise.models.pair import Pair
from stepwise.models.reading import read
from stepwise.store.opening import on_server, open_store


@dataclass(frozen=True)
class Solving:
    """Builds an engine, and what goes with it, in any process.

    Attributes:
        cfg: settings of `scripts.settings.Routing`, with a ``scope``; resolved.
        graders: a pair of one model that grades; None for none.
        sampling: as `stepwise.Pair.engine` takes it.
    """

    cfg: DictConfig
    pair: Pair
    graders: Pair | None
    sampling: dict[str, Any]

    def __call__(self) -> Here:
        cfg, store = self.cfg, open_store(self.cfg.store)
        engine = self.pair.engine(
            backend=backend_of(cfg), models=cfg.models, cost=cfg.cost, store=store, **self.sampling
        )
        engine, estimates = with_prior(engine, cfg)
        grader = Grader(self.graders.engine(cost=cfg.cost, store=store)) if self.graders else None
        return Here(engine, grader, estimates)


@dataclass(frozen=True)
class Alone:
    """Builds an engine over one model of a pair, in any process.

    Attributes:
        cfg: settings of `scripts.settings.Pool`, with sampling; resolved.
    """

    cfg: DictConfig
    pair: Pair
    model: str

    def __call__(self) -> Traces:
        cfg = self.cfg
        engine = self.pair.engine(
            backend=backend_of(cfg), models=[self.model], cost="tokens", store=open_store(cfg.store),
            temperature=cfg.temperature, seed=cfg.seed,
        )  # fmt: skip
        return Traces(engine)


def resolved(cfg: DictConfig) -> DictConfig:
    """Settings as plain values, which can be pickled; a store's file by its whole path."""
    values = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    if not on_server(cfg.store):
        values.store = str(Path(cfg.store).absolute())
    return cast(DictConfig, values)


def service_of(cfg: DictConfig, recipe: Recipe) -> tuple[Service, int]:
    """A recipe's service, in this process or on a cluster's workers, and how many calls to keep in flight.

    Raises:
        ConfigError: if a setting is unusable, or the cluster cannot run it.
    """
    if not cfg.cluster or cfg.cluster.address is None:
        return recipe(), cfg.concurrency
    given: Any = OmegaConf.to_container(cfg.cluster, resolve=True)
    settings = read(ClusterSettings, given, "cluster")
    pool = Pool(recipe, settings, concurrency=cfg.concurrency)
    if pool.machines > 1 and not on_server(cfg.store):
        run(pool.close())
        raise ConfigError(
            f"store: workers on {pool.machines} machines cannot share the file {cfg.store}; "
            "use store=redis://HOST:PORT/0."
        )
    return pool, pool.capacity


def solver_of(cfg: DictConfig, pair: Pair, **sampling: Any) -> tuple[Solver, int]:
    """What makes the rows of a program, and how many of them are in flight.

    Raises:
        ConfigError: as `service_of`.
    """
    graders = instantiate(cfg.grader) if cfg.get("grader") else None
    service, concurrency = service_of(cfg, Solving(resolved(cfg), pair, graders, sampling))
    return OnCluster(service) if isinstance(service, Pool) else cast(Here, service), concurrency
