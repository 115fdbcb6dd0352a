"""How much is left: the oracle frontier of a pair, by search through the tree of continuations.

    python -m scripts.oracle n=300
    python -m scripts.oracle cluster=ray store=redis://HOST:6379/0

Writes one line a problem to ``rows.jsonl`` and the frontier to ``summary.json``. Completions are
kept in the step store, so that a run that is killed goes on where it was.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.progress import Progress

from policies.oracle import Best, frontier
from policies.reference import measure_reference
from scripts.cluster import Searcher, Searching, cluster_of, resolved, service_of
from scripts.program import console, program, save_config
from scripts.settings import Routing, engine_of
from stepwise.engine.concurrency import as_they_finish
from stepwise.evaluation import provenance


@dataclass
class Oracle(Routing):
    """The settings of a search."""

    output: str = "outputs/oracle"
    split: str = "test"
    n: int = 1000
    concurrency: int = 64  # problems at a time, on every worker of a cluster
    cluster: Any = None


@program("oracle", Oracle)
def main(cfg: DictConfig) -> None:
    output = provenance.writable(cfg.output)
    save_config(cfg, output)
    pair = instantiate(cfg.pair)
    problems = instantiate(cfg.dataset, split=cfg.split, limit=cfg.n)
    engine = engine_of(cfg, pair)
    reference = engine.run(measure_reference(engine, problems))
    searching = Searching(resolved(cfg), pair) if cluster_of(cfg) else partial(Searcher, engine)
    search, concurrency = service_of(cfg, searching)
    searched: list[Best] = []

    async def search_all() -> None:
        with Progress(console=console) as progress, (output / "rows.jsonl").open("w") as rows:
            task = progress.add_task("searching", total=len(problems))
            async for best in as_they_finish(search, problems, concurrency):
                searched.append(best)
                print(json.dumps(asdict(best)), file=rows, flush=True)
                progress.advance(task)

    engine.run(search_all())
    engine.run(search.close())
    engine.run(engine.close())
    cost, accuracy = frontier(searched, reference.large_cost)
    reaches = cost[np.searchsorted(accuracy, min(reference.large_accuracy, accuracy[-1]))]
    summary = {
        "pair": pair.name, "dataset": cfg.dataset.name, "split": cfg.split, "n": len(searched),
        "cost_unit": engine.cost.unit, "large": asdict(reference),
        "cost": cost.round(5).tolist(), "accuracy": accuracy.round(5).tolist(),
        "cost_of_large_accuracy": float(reaches), "complete": sum(best.complete for best in searched),
        **provenance.describe(),
    }  # fmt: skip
    (output / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    console.print(
        f"oracle on {len(searched)} problems: from {accuracy[0]:.1%} at {cost[0]:.1%} of large-only cost to "
        f"{accuracy[-1]:.1%} at {cost[-1]:.1%}; "
        f"large-only's accuracy of {reference.large_accuracy:.1%} takes {reaches:.1%}"
    )


if __name__ == "__main__":
    main()
