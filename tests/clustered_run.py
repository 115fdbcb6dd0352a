"""A run on a Ray cluster, to be killed: `tests.killed_run`'s problems, made by workers that share a store.

python -m tests.clustered_run PORT STORE ADDRESS FOLDER
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from stepwise.cluster.pool import Pool
from stepwise.cluster.settings import ClusterSettings
from stepwise.engine.concurrency import run
from stepwise.evaluation.run import evaluate
from stepwise.evaluation.solver import Here, OnCluster, Traces
from stepwise.store.opening import open_store
from tests.killed_run import CONCURRENCY, CONTENDERS, PROBLEMS, pair


@dataclass(frozen=True)
class Recipe:
    """Models behind the server at a port, and a store."""

    port: int
    store: str

    def __call__(self) -> Here:
        return Here(pair(self.port).engine(store=open_store(self.store)))


@dataclass(frozen=True)
class TracesRecipe(Recipe):
    """The same, for whole chains."""

    def __call__(self) -> Traces:  # type: ignore[override]
        return Traces(pair(self.port).engine(store=open_store(self.store)))


def main(port: int, store: str, address: str, folder: Path) -> None:
    pool = Pool(Recipe(port, store), ClusterSettings(address), concurrency=CONCURRENCY)
    solver = OnCluster(pool)
    run(evaluate(solver, PROBLEMS, CONTENDERS, folder / "rows.jsonl", concurrency=pool.capacity))
    run(solver.close())


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]))
