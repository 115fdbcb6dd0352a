"""Simulation: does the log of one router say what another would have reached?

    python -m scripts.checks.logged n=60 resamples=200 chains=5000

Grows the trees of problems as far as an exploring router comes, so that the truth about every other router is
known; draws many logs from them, estimates the other routers from each, and counts how often the estimate is
within two points of the truth: accuracy in points, cost in points of large-only's. A deviation that
fewer than ``least`` of a problem's chains come to is never drawn there, and its chance in the log is 0.

The same problems are answered by the large model with the router in the shadow, to see what the shadow's
report of the cost is worth.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.progress import track
from rich.table import Table

from envs.tree import Node, Tree
from scripts.program import console, program, save_config
from scripts.settings import Routing, engine_of
from stepwise import load_router
from stepwise.engine.concurrency import as_they_finish
from stepwise.engine.engine import Engine
from stepwise.evaluation import provenance
from stepwise.evaluation.logged import estimators
from stepwise.evaluation.logged.chains import Decided, LoggedChain, logged_chain
from stepwise.evaluation.logged.shadow import shadowed
from stepwise.evaluation.logged.weighed import Weighed, weigh
from stepwise.gateway.decisions import Watched, watched_steps
from stepwise.routers import Confidence, PolicyRouter, ThresholdRouter
from stepwise.types import Problem, Router

CLOSE = 0.02
"""Two points."""


@dataclass
class Logged(Routing):
    """The settings of a simulation."""

    output: str = "outputs/check_logged"
    split: str = "test"
    n: int = 60
    concurrency: int = 64
    policy: str = "nano-ppo"
    budget: float = 0.4  # of the router that is logged
    budgets: list[float] = field(default_factory=lambda: [0.3, 0.5])  # of the others
    explore: float = 0.5
    least: float = 0.004
    chains: int = 5000
    resamples: int = 200
    seed: int = 0


@dataclass(frozen=True)
class Leaf:
    """A chain of a tree, and how likely a log comes to it, given the problem."""

    chain: LoggedChain
    probability: float


@dataclass(frozen=True)
class World:
    """Grows the chains that an exploring router comes to, and those of the targets."""

    tree: Tree
    router: PolicyRouter
    targets: Sequence[Router]
    explore: float
    least: float

    @property
    def engine(self) -> Engine:
        return self.tree.engine

    async def leaves(self, problem: Problem) -> list[Leaf]:
        """Every chain of a problem that can be in the log; their probabilities add up to 1."""
        return await self._below(await self.tree.root(problem), 1.0, {}, self.targets)

    async def _below(
        self, node: Node, reach: float, decided: dict[int, Decided], follow: Sequence[Router]
    ) -> list[Leaf]:
        trace = node.trace
        if trace.stop is not None:
            return [Leaf(self._logged(node, decided), reach)]
        wanted = self.router.decide(trace)
        choices = [(target, target.decide(trace).model) for target in follow]
        chances = self._chances(wanted.model, reach, {model for _, model in choices})
        known = {**decided, len(trace.steps): Decided.of(trace, wanted.model, wanted.score, chances)}
        models = self.engine.models
        children = await asyncio.gather(*(self.tree.child(node, models.index(model)) for model in chances))
        below = [
            self._below(
                child, reach * chance, known, [target for target, choice in choices if choice == model]
            )
            for child, (model, chance) in zip(children, chances.items(), strict=True)
        ]
        return [leaf for leaves in await asyncio.gather(*below) for leaf in leaves]

    def _chances(self, wanted: str, reach: float, followed: set[str]) -> dict[str, float]:
        each = self.explore / len(self.engine.models)
        others = [model for model in self.engine.models if model != wanted]
        drawn = [model for model in others if reach * each >= self.least or model in followed]
        return {wanted: 1 - each * len(drawn)} | dict.fromkeys(drawn, each)

    def _logged(self, node: Node, decided: dict[int, Decided]) -> LoggedChain:
        trace, engine, router = node.trace, self.engine, self.router
        alone = engine.cost_alone(trace, engine.models[-1])
        chain = logged_chain(router, engine, trace, alone, decided=decided)
        return msgspec.structs.replace(chain, correct=float(node.correct))


@program("checks.logged", Logged)
def main(cfg: DictConfig) -> None:
    output = provenance.writable(cfg.output)
    save_config(cfg, output)
    pair = instantiate(cfg.pair)
    problems = instantiate(cfg.dataset, split=cfg.split, limit=cfg.n)
    engine = engine_of(cfg, pair)
    router = load_router(cfg.policy, budget=cfg.budget)
    targets = named_targets(cfg.policy, cfg.budgets)
    world = World(Tree(engine, router.look), router, list(targets.values()), cfg.explore, cfg.least)
    leaves = engine.run(_grow(world, problems, cfg.concurrency))
    shadow = engine.run(_shadow(engine, router, problems, cfg.concurrency))
    engine.run(engine.close())
    (output / "leaves.jsonl").write_bytes(b"".join(msgspec.json.encode(leaf) + b"\n" for leaf in leaves))
    rng = np.random.default_rng(cfg.seed)
    probability = np.array([leaf.probability for leaf in leaves]) / len(problems)
    drawn = rng.multinomial(cfg.chains, probability / probability.sum(), cfg.resamples)
    chains = [leaf.chain for leaf in leaves]
    lines = [
        check(f"{name}{suffix}", of_target(chains, target, exploring), probability, drawn)
        for name, target in track(targets.items(), description="resampling", console=console)
        for suffix, exploring in (("", False), (", as many drawn", True))
    ]
    _show(lines, cfg, len(leaves))
    low, high = shadow["interval"]
    console.print(
        f"In the shadow of the large model, {router.name} at budget {cfg.budget:g} is said to cost "
        f"{shadow['said']:.1%} ({low:.1%} to {high:.1%}) of it; it costs {shadow['true']:.1%}."
    )
    summary = {
        "leaves": len(leaves), "problems": len(problems), "checks": lines, "shadow": shadow,
        **provenance.describe(),
    }  # fmt: skip
    (output / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


def named_targets(policy: str, budgets: Sequence[float]) -> dict[str, Router]:
    """The routers that are estimated, by name."""
    others: dict[str, Router] = {
        f"policy, budget {budget:g}": load_router(policy, budget=budget) for budget in budgets
    }
    rules = {
        f"confidence, {threshold:g}": ThresholdRouter(Confidence("min"), threshold, "confidence")
        for threshold in (0.5, 1.0)
    }
    return {**others, **rules}


async def _grow(world: World, problems: Sequence[Problem], concurrency: int) -> list[Leaf]:
    leaves: list[Leaf] = []
    grown: AsyncIterator[list[Leaf]] = as_they_finish(world.leaves, problems, concurrency)
    async for of_a_problem in grown:
        leaves += of_a_problem
        console.print(f"{len(leaves)} chains", end="\r")
    return leaves


def of_target(chains: Sequence[LoggedChain], target: Router, exploring: bool) -> Weighed:
    """Where a tree was not grown, a target with decisions drawn goes where the log goes."""
    weighed = weigh(chains, target, exploring=exploring)
    if not exploring:
        return weighed
    edge = weighed.barred > 0
    here = np.eye(weighed.target.shape[2])[weighed.taken]
    return replace(
        weighed, ratio=np.where(edge, 1.0, weighed.ratio), barred=np.where(edge, 0.0, weighed.barred),
        target=np.where(edge[..., None], here, weighed.target),
    )  # fmt: skip


async def _shadow(
    engine: Engine, router: PolicyRouter, problems: Sequence[Problem], concurrency: int
) -> dict[str, Any]:
    """What the large model's log says that the router costs, and what it does, as shares."""
    watched = Watched(engine.models[-1], router=router)

    async def both(problem: Problem) -> tuple[LoggedChain, float]:
        trace = await engine.solve(problem, watched)
        chain = logged_chain(
            router, engine, trace, engine.cost_alone(trace, watched.model), decided={}, shadow=watched.model
        )
        steps = await watched_steps(engine, watched, trace)
        routed = await engine.solve(problem, router)
        return msgspec.structs.replace(chain, steps=steps), routed.cost

    answered = [pair async for pair in as_they_finish(both, problems, concurrency)]
    share = shadowed([chain for chain, _ in answered]).share
    true = sum(cost for _, cost in answered) / sum(chain.cost for chain, _ in answered)
    return {"said": share.value, "interval": share.interval, "true": true}


def check(
    name: str, weighed: Weighed, probability: NDArray[np.float64], drawn: NDArray[np.int64]
) -> dict[str, Any]:
    """One target on many logs. ``drawn`` [resamples, leaves] says how often each chain is in a log."""
    last = np.cumprod(weighed.ratio, 1)[:, -1]
    true_accuracy = float(probability @ (last * weighed.correct))
    true_cost = float(probability @ (last * weighed.cost.sum(1)) / (probability @ (last * weighed.alone)))
    errors: dict[str, list[tuple[float, float]]] = {}
    effective = []
    for counts in drawn:
        log = weighed.rows(np.repeat(np.arange(len(counts)), counts))
        effective.append(estimators.evidence(log).effective)
        accuracy, cost = estimators.accuracy(log, replicates=0), estimators.cost(log, replicates=0)
        for estimator, value in accuracy.items():
            off = value.value - true_accuracy, cost[estimator].value - true_cost
            errors.setdefault(estimator, []).append(off)
    return {
        "target": name, "accuracy": true_accuracy, "cost": true_cost, "effective": float(np.mean(effective)),
        "estimators": {estimator: _summary(np.array(off)) for estimator, off in errors.items()},
    }  # fmt: skip


def _summary(errors: NDArray[np.float64]) -> dict[str, float]:
    """Of errors [resamples, (accuracy, cost)]."""
    close = (np.abs(errors) <= CLOSE).mean(0)
    root = np.sqrt((errors**2).mean(0))
    return {
        "accuracy_close": float(close[0]), "cost_close": float(close[1]),
        "accuracy_rmse": float(root[0]), "cost_rmse": float(root[1]),
    }  # fmt: skip


def _show(lines: Sequence[dict[str, Any]], cfg: DictConfig, leaves: int) -> None:
    table = Table(
        title=f"{cfg.resamples} logs of {cfg.chains} chains, {cfg.explore:g} of the decisions drawn, from "
        f"{leaves} chains of {cfg.n} problems; share of the logs whose estimate is within 2 points"
    )
    for name in (
        "target",
        "accuracy",
        "cost",
        "effective chains",
        "estimator",
        "accuracy close",
        "cost close",
    ):
        table.add_column(name)
    for line in lines:
        truth = (line["target"], f"{line['accuracy']:.1%}", f"{line['cost']:.1%}", f"{line['effective']:.0f}")
        for estimator, close in line["estimators"].items():
            row = f"{close['accuracy_close']:.1%}", f"{close['cost_close']:.1%}"
            table.add_row(*truth, estimator, *row)
    console.print(table)


if __name__ == "__main__":
    main()
