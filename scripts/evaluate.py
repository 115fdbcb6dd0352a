"""Compare routers on a dataset: rows, summary, frontier and report.

    python -m scripts.evaluate n=1000                     # all routers on nano's test split
    python -m scripts.evaluate 'only=[confidence,entropy]' output=outputs/mine
    python -m scripts.evaluate pair=mine.yaml dataset=problems.jsonl policy=outputs/train/policy
    python -m scripts.evaluate experiment=nano_frontier  # with the baselines that have to be trained first
    python -m scripts.evaluate experiment=scope_zeroeval  # another study than of routers on a pair
    python -m scripts.evaluate -m dataset=gsm8k,math500 'output=outputs/real/${dataset.name}'
    python -m scripts.evaluate samples=4 temperature=0.6  # four chains a problem
    python -m scripts.evaluate cluster=ray store=redis://HOST:6379/0  # on many machines
    python -m scripts.evaluate --config-path outputs/evaluate output=outputs/again   # repeat a run

A run that is killed continues where it stopped. Its folder holds what repeats it: ``config.yaml`` is the
resolved configuration, ``summary.json`` names versions, models, data, machine and seeds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.utils import get_method, instantiate
from omegaconf import DictConfig, ListConfig

from scripts.cluster import solver_of
from scripts.program import console, program, save_config
from scripts.refusing import origin
from scripts.settings import Routing, backend_of
from stepwise import report
from stepwise.data.splits import check_unseen
from stepwise.errors import ConfigError, StepwiseError
from stepwise.evaluation import metrics, provenance
from stepwise.evaluation.progress import compare
from stepwise.evaluation.provenance import digest
from stepwise.evaluation.run import Contender
from stepwise.evaluation.summary import Difference, Oracle, Summary, samples, summarise
from stepwise.models.pair import Pair
from stepwise.routers import PolicyRouter
from stepwise.routers.roles import in_pool
from stepwise.types import Router

ENDS = ("small", "large")
"""Routers that no evaluation goes without: what others cost and reach is measured between them."""


@dataclass
class Evaluate(Routing):
    """The settings of an evaluation."""

    study: Any = None  # settings of another study; its ``run`` is a function that takes over
    output: str = "outputs/evaluate"
    n: int = 1000
    split: str | None = "test"  # null: a single file as a whole
    seed: int = 0  # of sampling and of the bootstrap
    samples: int = 1  # chains a problem, each with a seed of its own
    temperature: float = 0.0  # 0 is greedy
    top_p: float = 1.0
    scope: Any = None
    grader: Any = None  # a pair of one model that grades what rules cannot: pair@grader=grader
    artifact: str | None = None  # or policy=FOLDER: the policy that `ppo` is; null: the one that ships
    routers: dict[str, Any] = field(default_factory=dict)  # each with its knob and the values of it to try
    only: list[str] | None = None  # of the routers; small and large, which costs are relative to, always stay
    transfer: bool = False  # let policies route a pair that they were not trained on
    oracle: str | None = None  # summary.json of scripts.oracle, to draw and compare with
    concurrency: int = 128  # chains in flight, on every worker of a cluster
    cluster: Any = None
    compare: list[str] = field(default_factory=lambda: ["ppo"])  # to the other routers, at the budgets
    budgets: list[float] = field(default_factory=lambda: [0.2, 0.35, 0.5])  # shares of large-only's cost


@program("evaluate", Evaluate)
def main(cfg: DictConfig) -> None:
    if cfg.study is not None:
        get_method(cfg.study.run)(cfg)
        return
    if cfg.samples < 1 or (cfg.samples > 1 and not cfg.temperature):
        raise ConfigError(
            f"samples: {cfg.samples} chains a problem need temperature > 0, not {cfg.temperature}."
        )
    output = provenance.writable(cfg.output)
    save_config(cfg, output)
    pair = instantiate(cfg.pair)
    field = contenders(cfg, pair)
    problems = instantiate(cfg.dataset, split=cfg.split, limit=cfg.n)
    check_compared(cfg.compare, field)
    for contender in field:
        check_unseen(problems, getattr(contender.router, "seen", {}))
    sampling = {"temperature": cfg.temperature, "top_p": cfg.top_p, "seed": cfg.seed}
    solver, concurrency = solver_of(cfg, pair, **sampling)
    models, unit = solver.about.models, solver.about.unit
    sampled = f"{sampling}" if cfg.temperature else ""
    setting = " ".join(filter(None, (pair.identity, f"{backend_of(cfg)}", sampled, solver.about.prior)))
    rows = compare(
        solver, problems, field, output, console=console,
        setting=setting, concurrency=concurrency, samples=cfg.samples,
    )  # fmt: skip
    about = {
        "dataset": cfg.dataset.name, "split": cfg.split or "", "pair": pair.name, "cost_unit": unit,
        "sampling": sampling, "backend": backend_of(cfg),
        "weights": {model.name: model.identity for model in pair.everyone},
        "problems": digest(*((p.id, p.question, p.answer) for p in problems)),
        **provenance.describe(),
    }  # fmt: skip
    summary = summarise(rows, problems, models=models, seed=cfg.seed, about=about)
    if cfg.oracle:
        summary.oracle = oracle(cfg.oracle, summary)
    runs = samples(rows, problems)
    summary.differences = [
        line for name in cfg.compare for line in differences(name, runs, models[0], models[-1], cfg)
    ]
    report.write_run(output, summary, rows)
    report.show(summary, output, console)


def contenders(cfg: DictConfig, pair: Pair) -> list[Contender]:
    """Every configured router at every value of its knob, with the pair's models in its roles; policies are
    checked against the pair."""
    models = [model.name for model in pair.select(cfg.models)]
    if cfg.artifact and "ppo" in cfg.routers:
        cfg.routers.ppo.router.name = cfg.artifact
    field, unit = settings_of(chosen(cfg.routers, cfg.only)), pair.cost_model(cfg.cost).unit
    for contender in field:
        if isinstance(contender.router, PolicyRouter):
            contender.router.check(pair, cfg.models, transfer=cfg.transfer, unit=unit)
    return [Contender(in_pool(contender.router, models), contender.threshold) for contender in field]


def chosen(routers: Mapping[str, Any], only: Sequence[str] | None) -> list[Any]:
    """The groups that ``only`` names, and the two ends of the scale; all of them where it is None.

    Raises:
        ConfigError: if it names no router.
    """
    for name in only or ():
        if name not in routers:
            raise ConfigError(
                f"only: {name!r} is no router here; they are {', '.join(sorted(routers))}; "
                "+router@routers.NAME=NAME adds configs/router/NAME.yaml."
            )
    return [group for name, group in routers.items() if only is None or name in (*ENDS, *only)]


def settings_of(groups: Iterable[Any]) -> list[Contender]:
    """The routers that groups of ``configs/router`` describe, at every value of their knobs.

    Raises:
        ConfigError: if there are none, one cannot be made, or two have one name.
    """
    field: list[Contender] = []
    for group in groups:
        made = [*_settings(group)]
        taken = {c.router.name for c in made} & {c.router.name for c in field}
        if taken:
            raise ConfigError(f"routers: two are named {min(taken)!r}; give each a name of its own.")
        field += made
    if not field:
        raise ConfigError("routers must name at least one router.")
    return field


def check_compared(names: Sequence[str], field: Sequence[Contender]) -> None:
    """
    Raises:
        ConfigError: if one of the names is no router's. ``ppo``, the default, may be left out.
    """
    known = sorted({contender.router.name for contender in field})
    for name in names:
        if name not in known and name != "ppo":
            raise ConfigError(f"compare: {name!r} is no router's name here; they are {', '.join(known)}.")


def _settings(group: Any) -> Iterator[Contender]:
    make, knob = instantiate(group.router), group.get("knob")
    values = group["values"] if knob else [None]
    if values is None and knob == "threshold":
        values = thresholds_of(_made(make, group, knob, 1.0))
    if not isinstance(values, list | ListConfig):
        none = ", and this router has none of its own" if values is None else ""
        raise ConfigError(f"{group._get_full_key('values')} must be a list of {knob}s, not {values!r}{none}.")
    for value in values:
        yield Contender(_made(make, group, knob, value), value)


def thresholds_of(router: Router) -> list[float] | None:
    """A policy's own: where its decisions change, as its training found, else where it was calibrated; None
    of a router without any."""
    if not isinstance(router, PolicyRouter):
        return None
    own, record = router.artifact.card.get("thresholds"), router.artifact.record
    return list(own) if own else record.thresholds.tolist() if record else None


def _made(make: Any, group: Any, knob: str | None, value: Any) -> Router:
    """The router that a group describes, at one value of its knob.

    Raises:
        ConfigError: if its constructor, which may be anybody's, fails.
    """
    try:
        router: Router = make(**{knob: value}) if knob else make()
    except StepwiseError:
        raise
    except Exception as error:
        at = origin(str(group._get_full_key("router")))
        setting = f" with {knob}={value!r}" if knob else ""
        raise ConfigError(f"{at}: cannot be made{setting}: {error}.") from error
    return router


def differences(name: str, runs: Any, small: str, large: str, cfg: DictConfig) -> list[Difference]:
    """A router less each other one, with paired intervals: accuracy at equal costs, and APGR."""
    lines = []
    for other in runs if name in runs else ():
        if other in cfg.compare or len(runs[other][0]) < 2:
            continue
        ours, theirs, ends = runs[name], runs[other], (runs[small], runs[large])
        gaps = {
            f"accuracy at {budget:.0%} of large-only cost": metrics.difference_at_cost(
                ours, theirs, budget, ends[1], seed=cfg.seed
            )
            for budget in cfg.budgets
        }
        gaps["APGR"] = metrics.difference_in_apgr(ours, theirs, *ends, seed=cfg.seed)
        lines += [difference_of(name, other, what, values) for what, values in gaps.items()]
    return lines


def difference_of(name: str, other: str, quantity: str, values: Sequence[float]) -> Difference:
    """A difference as it is reported; values are its mean and the ends of its interval."""
    mean, *ci = (None if value != value else round(value, 4) for value in values)
    return Difference(name, other, quantity, mean, ci)


def oracle(path: str, summary: Summary) -> Oracle:
    """The oracle frontier in the units of this evaluation, with its APGR."""
    try:
        search = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"oracle: {path} cannot be read; make it with `python -m scripts.oracle`."
        ) from error
    ends = [
        metrics.Point(point.cost / summary.large_cost, point.accuracy)
        for model in (summary.models[0], summary.models[-1])
        for point in summary.points
        if point.router == model
    ]
    frontier = metrics.curve(search["cost"], search["accuracy"], *ends)
    return Oracle(
        n=search["n"],
        complete=search["complete"],
        cost=frontier.cost.tolist(),
        accuracy=frontier.accuracy.tolist(),
        apgr=metrics.defined(metrics.apgr(frontier, *ends)),
        cpt50=metrics.defined(metrics.cpt(frontier, 0.50, *ends)),
        cpt80=metrics.defined(metrics.cpt(frontier, 0.80, *ends)),
        cpt95=metrics.defined(metrics.cpt(frontier, 0.95, *ends)),
    )


if __name__ == "__main__":
    main()
