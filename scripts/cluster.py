"""Where the chains of a program are made: in this process, or with ``cluster=ray`` on a cluster's workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from envs import RoutingVectorEnv
from envs.on_ray import parts_on
from envs.remote import RemoteVectorEnv
from envs.tree import Tree
from policies.oracle import Best, search
from scripts.prior import with_prior
from scripts.settings import backend_of, engine_of
from stepwise.cluster.pool import Pool
from stepwise.cluster.settings import ClusterSettings
from stepwise.cluster.worker import Recipe, Service
from stepwise.engine.concurrency import run
from stepwise.engine.engine import Engine
from stepwise.errors import ConfigError
from stepwise.evaluation.grader import Grader
from stepwise.evaluation.solver import Here, OnCluster, Solver, Traces
from stepwise.models.pair import Pair
from stepwise.models.reading import read
from stepwise.store.opening import on_server, open_store
from stepwise.types import Problem


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


@dataclass(frozen=True)
class Searching:
    """Builds what searches a problem's tree for the cheapest right chain, in any process.

    Attributes:
        cfg: settings of `scripts.settings.Routing`; resolved.
    """

    cfg: DictConfig
    pair: Pair

    def __call__(self) -> Searcher:
        return Searcher(engine_of(self.cfg, self.pair))


class Searcher:
    """`policies.oracle.search` as a service."""

    about = None

    def __init__(self, engine: Engine) -> None:
        self._tree = Tree(engine, "before")

    async def __call__(self, problem: Problem) -> Best:
        return await search(self._tree, problem)

    async def close(self) -> None:
        await self._tree.engine.close()


@dataclass(frozen=True)
class Rollouts:
    """Makes vector environments over an engine of its own, in any process.

    Attributes:
        cfg: settings of `scripts.settings.Routing`, with a ``scope``; resolved.
        settings: those of `RoutingVectorEnv`.
    """

    cfg: DictConfig
    pair: Pair
    problems: Sequence[Problem]
    settings: dict[str, Any]

    def __call__(self) -> Callable[[int], RoutingVectorEnv]:
        engine, _ = with_prior(engine_of(self.cfg, self.pair), self.cfg)
        return lambda count: RoutingVectorEnv(engine, self.problems, **{**self.settings, "num_envs": count})


def resolved(cfg: DictConfig) -> DictConfig:
    """Settings as plain values, which can be pickled; a store's file by its whole path."""
    values = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    if not on_server(cfg.store):
        values.store = str(Path(cfg.store).absolute())
    return cast(DictConfig, values)


def service_of(cfg: DictConfig, recipe: Recipe, *, stores: bool = True) -> tuple[Service, int]:
    """A recipe's service, in this process or on a cluster's workers, and how many calls to keep in flight.

    Args:
        stores: the service keeps completions in the settings' store.

    Raises:
        ConfigError: if a setting is unusable, or the cluster cannot run it.
    """
    settings = cluster_of(cfg)
    if settings is None:
        return recipe(), cfg.concurrency
    pool = Pool(recipe, settings, concurrency=cfg.concurrency)
    try:
        if stores:
            check_store(cfg.store, pool.machines)
    except ConfigError:
        run(pool.close())
        raise
    return pool, pool.capacity


def cluster_of(cfg: DictConfig) -> ClusterSettings | None:
    """The cluster that is asked for, if one is.

    Raises:
        ConfigError: if a setting is unusable.
    """
    if not cfg.cluster or cfg.cluster.address is None:
        return None
    given: Any = OmegaConf.to_container(cfg.cluster, resolve=True)
    return read(ClusterSettings, given, "cluster")


def check_store(store: str, machines: int) -> None:
    """
    Raises:
        ConfigError: if workers on so many machines cannot share it.
    """
    if machines > 1 and not on_server(store):
        raise ConfigError(
            f"store: workers on {machines} machines cannot share the file {store}; "
            "use store=redis://HOST:PORT/0."
        )


def environment_of(
    cfg: DictConfig, pair: Pair, engine: Engine, problems: Sequence[Problem], **settings: Any
) -> RoutingVectorEnv:
    """The vector environment of a training, with its slots in this process or on a cluster's workers.

    Args:
        engine: the driver's.
        settings: those of `RoutingVectorEnv`.

    Raises:
        ConfigError: as `service_of`.
    """
    cluster = cluster_of(cfg)
    if cluster is None:
        return RoutingVectorEnv(engine, problems, **settings)
    parts = parts_on(cluster, Rollouts(resolved(cfg), pair, problems, settings))
    check_store(cfg.store, parts[0].machines)
    return RemoteVectorEnv(parts, engine, problems, **settings)


def solver_of(cfg: DictConfig, pair: Pair, **sampling: Any) -> tuple[Solver, int]:
    """What makes the rows of a program, and how many of them are in flight.

    Raises:
        ConfigError: as `service_of`.
    """
    graders = instantiate(cfg.grader) if cfg.get("grader") else None
    service, concurrency = service_of(cfg, Solving(resolved(cfg), pair, graders, sampling))
    return OnCluster(service) if isinstance(service, Pool) else cast(Here, service), concurrency
