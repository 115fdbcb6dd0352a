"""A run to be killed: three routers over problems, with models behind a server and everything stored.

python -m tests.killed_run PORT FOLDER
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from stepwise.evaluation.run import Contender, evaluate
from stepwise.models.model import Model
from stepwise.models.pair import Pair
from stepwise.routers import Always, Confidence, ThresholdRouter
from stepwise.store.sqlite import SqliteStore
from tests.worlds import problem

CONCURRENCY = 4
PROBLEMS = [problem(i % 10, 7, (3 * i) % 10, i // 10) for i in range(50)]
CONTENDERS = [
    Contender(Always("small")),
    Contender(Always("large")),
    Contender(ThresholdRouter(Confidence("min"), 0.5, "confidence"), 0.5),
]


def pair(port: int) -> Pair:
    chat = {"name": "chat", "base_url": f"http://127.0.0.1:{port}/v1", "continues": True, "logprobs": True}
    models = tuple(Model(name, parameters=size, backend=chat) for name, size in (("small", 1), ("large", 20)))
    return Pair("served", models, prompt="{question}\n", max_step_tokens=64)


async def run(port: int, folder: Path) -> None:
    engine = pair(port).engine(store=SqliteStore(folder / "steps.db"))
    await evaluate(engine, PROBLEMS, CONTENDERS, folder / "rows.jsonl", concurrency=CONCURRENCY)
    await engine.close()


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1]), Path(sys.argv[2])))
