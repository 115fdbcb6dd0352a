"""What is said of a threshold's direction is what the router does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from stepwise.report.thresholds import CHEAPER, DEARER, MEANING, knobs, legend
from stepwise.routers import (
    Confidence,
    FirstTokenEntropy,
    LargeFirst,
    Random,
    SmallFirst,
    ThresholdRouter,
    load_router,
)
from stepwise.types import Router
from tests.worlds import engine, problem

PROBLEMS = [problem(a, b, c) for a in (1, 7) for b in (2, 8, 9) for c in (0, 3, 6)]
ROUTERS: dict[str, Callable[[float], Router]] = {
    "random": Random,
    "random_query": lambda p: Random(p, per="problem"),
    "large_first": lambda k: LargeFirst(int(k)),
    "small_first": lambda k: SmallFirst(int(k)),
    "confidence": lambda t: ThresholdRouter(Confidence("min"), t, "c"),
    "mean_confidence": lambda t: ThresholdRouter(Confidence("mean"), t, "m"),
    "entropy": lambda t: ThresholdRouter(FirstTokenEntropy(), t, "e"),
    "ppo": lambda t: load_router("nano-ppo", threshold=t),
}


@pytest.mark.parametrize("name", ROUTERS)
def test_higher_means_what_is_said(name: str) -> None:
    world = engine()

    def large_steps(threshold: float) -> int:
        traces = [world.solve_sync(one, ROUTERS[name](threshold)) for one in PROBLEMS]
        return sum(step.model == "large" for trace in traces for step in trace.steps)

    said = MEANING[name][1]
    low, high = large_steps(0.0), large_steps(1.0 if name.startswith("random") else 100.0)
    assert low != high and said == (DEARER if high > low else CHEAPER)


def test_a_line_a_router_and_none_for_strangers() -> None:
    assert legend(["small", "mine"]) == "" and knobs(["mine"]) == []
    assert legend(["mine", "small_first"]).splitlines() == [
        "Thresholds:",
        "  small_first: how many steps the small model writes first; higher = cheaper",
    ]
