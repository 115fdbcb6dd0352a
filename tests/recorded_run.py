"""A recording on a Ray cluster, to be killed: `tests.killed_run`'s problems, with models behind a server.

python -m tests.recorded_run PORT ADDRESS FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from scripts.record import write
from tests.killed_run import CONCURRENCY, CONTENDERS, PROBLEMS, pair


def settings(folder: Path, address: str | None) -> DictConfig:
    """Those of `scripts.record`; an address of None is no cluster."""
    return OmegaConf.create(
        {
            "dataset": {"name": "worlds"}, "split": "test", "models": None, "cost": "flops",
            "backend": "transformers", "store": "unused.db", "output": str(folder),
            "concurrency": CONCURRENCY, "together": 1, "tree": 3, "trees": 5, "cluster": {"address": address},
        }
    )  # fmt: skip


if __name__ == "__main__":
    port, address, folder = sys.argv[1:]
    write(settings(Path(folder), address), pair(int(port)), CONTENDERS, PROBLEMS)
