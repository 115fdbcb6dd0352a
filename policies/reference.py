"""What each model does alone: the unit of cost, the accuracies that routing is measured against, and how long
chains are.

A chain that failed says nothing of what a chain costs: it is tried again, then left out and counted; where
too many fail there is no reference at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from stepwise.engine.engine import Engine
from stepwise.errors import BackendError, ConfigError
from stepwise.routers import Always
from stepwise.routers.features import fit
from stepwise.types import Problem, Trace
from stepwise.verify import correct as is_correct

TRIES = 3
MAX_FAILED = 0.1
"""The largest share of problems that may fail for good."""


@dataclass(frozen=True)
class Reference:
    """What the models do alone on some problems; large-only's mean cost is the unit of cost.

    Attributes:
        n: problems that large-only solved to an end, right or wrong.
        failed: problems that it could not be run on, which are in no mean.
        small_cost: of small-only; 0 where it was not measured.
        scales: of features, fitted to these chains.
    """

    large_cost: float
    large_accuracy: float
    n: int
    failed: int = 0
    small_cost: float = 0.0
    small_accuracy: float = 0.0
    scales: Mapping[str, float] = field(default_factory=dict)

    def check(self, budget: float | None, unit: str) -> None:
        """Refuse a training that cannot lead anywhere.

        Args:
            budget: to keep to, as a fraction of large-only.
            unit: of cost.

        Raises:
            ConfigError: if small-only is not cheaper, or the budget is below what it costs.
        """
        if not 0.0 <= self.small_cost < self.large_cost:
            raise ConfigError(
                f"cost: a problem costs {self.small_cost:.4g} {unit} with the cheapest model alone and "
                f"{self.large_cost:.4g} with the most expensive one: there is nothing to save in this unit; "
                "choose another (cost=flops or cost=dollars), or another order of the pair's models."
            )
        least = self.small_cost / self.large_cost
        if budget is not None and budget < least:
            raise ConfigError(
                f"policy.budget: the cheapest model alone costs {least:.3g} of large-only, so that a budget "
                f"of {budget:g} cannot be kept; choose a larger one."
            )


async def measure_reference(engine: Engine, problems: Sequence[Problem]) -> Reference:
    """Solve problems with the most expensive model alone.

    Raises:
        BackendError: if it cannot be run on more than `MAX_FAILED` of them.
    """
    reference, _ = await _alone(engine, problems, engine.models[-1])
    return reference


async def _alone(
    engine: Engine, problems: Sequence[Problem], model: str
) -> tuple[Reference, Sequence[Trace]]:
    """What a model does alone, and its chains."""
    done, failed = await _solve(engine, problems, model)
    if len(failed) > MAX_FAILED * len(problems):
        raise BackendError(
            f"model {model!r} could not be run on {len(failed)} of {len(problems)} problems, "
            f"{TRIES} times each: {failed[0].error}",
            model=model,
        )
    correct = [await is_correct(trace) for trace in done]
    cost = math.fsum(trace.cost for trace in done) / len(done)
    return Reference(cost, sum(correct) / len(done), len(done), len(failed)), done


async def measure_ends(
    engine: Engine, problems: Sequence[Problem], features: Sequence[str] = ()
) -> Reference:
    """`measure_reference`, with the cheapest model alone beside it, and the scales of ``features``.

    Raises:
        BackendError: if a model cannot be run on more than `MAX_FAILED` of the problems.
    """
    small_name, large_name = engine.models[0], engine.models[-1]
    large, by_large = await _alone(engine, problems, large_name)
    small, by_small = await _alone(engine, problems, small_name)
    return replace(
        large, small_cost=small.large_cost, small_accuracy=small.large_accuracy,
        failed=large.failed + small.failed,
        scales=dict(fit((*by_small, *by_large), small_name, large_name, features)),
    )  # fmt: skip


async def _solve(engine: Engine, problems: Sequence[Problem], model: str) -> tuple[list[Trace], list[Trace]]:
    """Chains that ended, and those that failed at every try."""
    done: list[Trace] = []
    failed: list[Trace] = []
    left = problems
    for _ in range(TRIES):
        traces = [trace async for trace in engine.solve_many(left, Always(model))]
        done += [trace for trace in traces if trace.stop != "error"]
        failed = [trace for trace in traces if trace.stop == "error"]
        left = [trace.problem for trace in failed]
        if not left:
            break
    return done, failed
