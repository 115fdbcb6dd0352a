"""What large-only does: the unit of cost, and the accuracy that routing is measured against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stepwise.engine.engine import Engine
from stepwise.routers import Always
from stepwise.types import Problem
from stepwise.verify import correct as is_correct


@dataclass(frozen=True)
class Reference:
    """What large-only does on some problems: its mean cost is the unit of cost."""

    large_cost: float
    large_accuracy: float
    n: int


async def measure_reference(engine: Engine, problems: Sequence[Problem]) -> Reference:
    """Solve problems with the most expensive model alone."""
    costs, correct = [], []
    async for trace in engine.solve_many(problems, Always(engine.models[-1])):
        costs.append(trace.cost)
        correct.append(await is_correct(trace))
    return Reference(float(np.mean(costs)), float(np.mean(correct)), len(costs))
