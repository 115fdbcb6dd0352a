"""StepBench: routers scored on what real models wrote, in minutes, without models.

    python -m scripts.stepbench                            # all baselines
    python -m scripts.stepbench router=confidence          # in the place of the baselines
    python -m scripts.stepbench +router@routers.mine=mine  # beside them: configs/router/mine.yaml
    python -m scripts.stepbench router=confidence 'router.values=[0.5,1,2]'
    python -m scripts.stepbench dataset=gsm8k router=query # a router that reads the question
    python -m scripts.stepbench preamble=false             # worked examples are in the server's prefix cache
    python -m scripts.stepbench oracle=true                # and what no router can do better there
    python -m scripts.stepbench seconds=FILE               # by speeds that were measured
    python -m scripts.stepbench dataset=gsm8k report=DIR   # the chains to read, as those of an evaluation
    python -m scripts.stepbench recording=outputs/recordings/nano-nano

The last line is one JSON object. Costs are fractions of what the large model alone takes, in FLOPs, in
dollars (``'prices={small: {input: .25, output: 2}, large: {input: 1.25, output: 10}}'``) or in measured
seconds, drafts and prefill included; intervals are 95%, over problems. A chain that leaves the recording
counts as wrong, and at best as right: where not all chains stay on record, the truth lies between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig

from envs.tree import Tree
from policies.oracle import Best, frontier, search
from scripts.evaluate import settings_of
from scripts.program import console, program, save_config
from stepwise import report
from stepwise.engine.cost import CostModel, Dollars, Price
from stepwise.errors import ConfigError
from stepwise.evaluation import provenance
from stepwise.evaluation.progress import compare
from stepwise.evaluation.replayed import Bench, limit_of
from stepwise.evaluation.run import Contender
from stepwise.evaluation.summary import summarise
from stepwise.models.speeds import load_speeds
from stepwise.recording.folder import Recording
from stepwise.recording.replay import replay_engine
from stepwise.report.bench_plot import Ceiling, save_bench
from stepwise.report.bench_table import bench_table, remarks
from stepwise.routers import Always
from stepwise.types import Problem


@dataclass
class StepBench:
    """The settings of StepBench."""

    recording: str = "recordings/gsm8k-qwen_coder"
    split: str = "test"
    dataset: Any = None  # the recorded one, for routers that read questions
    preamble: bool = True  # charge each chain for reading what all prompts begin with
    prices: Any = None  # by model: {input, output, cached_input} in dollars per million tokens; null: FLOPs
    seconds: str | None = None  # a file of measured speeds (`stepwise.models.speeds`), to count seconds
    oracle: bool = False  # search what is recorded for the cheapest right chains
    picture: str | None = None  # a PNG of the table
    report: str | None = None  # folder for an evaluation's rows, tables and page; needs the data set
    seed: int = 0  # of the bootstrap
    router: Any = None  # one of configs/router, alone
    routers: dict[str, Any] = field(default_factory=dict)  # what is scored where no router is named


@program("stepbench", StepBench)
def main(cfg: DictConfig) -> None:
    recording, cost = Recording(cfg.recording), cost_of(cfg)
    bench = Bench(recording, cfg.split, preamble=cfg.preamble, cost=cost, dataset=dataset_of(cfg, recording))
    field = settings_of([cfg.router] if cfg.router else cfg.routers.values())
    if cfg.report:
        write_report(cfg, recording, bench, field)
    scored = [bench.replay(contender) for contender in field]
    rows = bench.table([bench.small, bench.large, *scored], seed=cfg.seed)
    name, n = Path(cfg.recording).name, len(bench.problems)
    console.print(bench_table(rows, f"{name}, {cfg.split}: {n} problems"))
    for line in remarks(rows):
        console.print(line)
    ceiling = ceiling_of(bench) if cfg.oracle else None
    if ceiling is not None:
        console.print(described(bench, ceiling))
    if cfg.picture:
        title = f"{name}, {cfg.split}: {n} questions"
        save_bench(rows, cfg.picture, title=title, unit=bench.engine.cost.unit, ceiling=ceiling)
    print(msgspec.json.encode({"recording": name, "n": n, "rows": rows}).decode())


def write_report(cfg: DictConfig, recording: Recording, bench: Bench, field: Sequence[Contender]) -> None:
    """The replayed chains in an evaluation's folder. One that leaves the recording ends there, without an
    answer, and takes what the large model's whole chain took."""
    if not cfg.dataset:
        raise ConfigError(
            "report: a recording holds no questions; name the recorded data set (dataset=NAME)."
        )
    output = provenance.writable(cfg.report)
    save_config(cfg, output)
    engine = replay_engine(recording, preamble=cfg.preamble, cost=cost_of(cfg), bounded=True)
    ends = [Contender(Always(engine.models[place])) for place in (0, -1)]
    models = recording.about["models"]
    name, weights = Path(cfg.recording).name, {model: its["weights"] for model, its in models.items()}
    setting = f"{weights}, {len(recording.tree) + len([*recording.tree.reads])} records, {cfg.preamble}"
    rows = compare(engine, bench.problems, [*ends, *field], output, setting=setting, console=console)
    about = {
        "dataset": cfg.dataset.name, "split": cfg.split, "pair": name, "cost_unit": engine.cost.unit,
        "backend": "recorded", "weights": weights, **provenance.describe(),
    }  # fmt: skip
    summary = summarise(rows, bench.problems, models=engine.models, seed=cfg.seed, about=about)
    report.write_run(output, summary, rows)
    console.print(f"wrote {output}/report.html")


def dataset_of(cfg: DictConfig, recording: Recording) -> Sequence[Problem]:
    """The problems of the data set that a program is given, for those of a recording; none without one."""
    if not cfg.dataset:
        return ()
    limit = limit_of(recording, cfg.split, cfg.dataset.name)
    problems: Sequence[Problem] = instantiate(cfg.dataset, split=cfg.split, limit=limit)
    return problems


def cost_of(cfg: DictConfig) -> CostModel | None:
    """Seconds or dollars, where a program is given either; None for FLOPs.

    Raises:
        ConfigError: if it is given both.
    """
    if cfg.seconds and cfg.prices:
        raise ConfigError("prices and seconds are two units of cost: give one of them.")
    if cfg.seconds:
        return load_speeds(cfg.seconds)
    return prices_of(cfg.prices)


def prices_of(prices: Any) -> CostModel | None:
    """Prices by model as a cost model; None for FLOPs."""
    return Dollars({name: Price(**price) for name, price in prices.items()}) if prices else None


def ceiling_of(bench: Bench) -> Ceiling:
    """What no router can do better on the recorded chains: the cheapest right ones, with hindsight."""

    async def searched() -> list[Best]:
        tree = Tree(bench.engine, "before")
        return [await search(tree, problem) for problem in bench.problems]

    return Ceiling(*frontier(bench.engine.run(searched()), float(bench.large.cost.mean())))


def described(bench: Bench, ceiling: Ceiling) -> str:
    cost, accuracy = ceiling
    small, goal = float(bench.small.correct.mean()), float(bench.large.correct.mean())
    gap = small + 0.9 * (goal - small)
    reached = {share: cost[np.searchsorted(accuracy, least)] for share, least in ((100, goal), (90, gap))}
    return (
        f"oracle on what is recorded: {accuracy[-1]:.1%} right at {cost[-1]:.1%} of the large model's cost; "
        f"its accuracy at {reached[100]:.1%}, 90% of the gap at {reached[90]:.1%}"
    )


if __name__ == "__main__":
    main()
