"""Measured seconds, on a clock that scripted models move on."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from scripts.bench.latency import Answered, summary
from scripts.bench.processor import processor_seconds
from scripts.bench.seconds import Call, errors, fit, observe
from stepwise.backends.scripted import ScriptedBackend
from stepwise.engine.backend import Around, Completion, Lost, Sampling, unaccounted
from stepwise.engine.cost import CostModel, Seconds, Speed
from stepwise.engine.engine import Engine
from stepwise.engine.stop_rules import StepRule
from stepwise.errors import ConfigError
from stepwise.models.speeds import Speeds, load_speeds, save_speeds
from stepwise.routers import Always, ThresholdRouter
from stepwise.routers.threshold import Confidence
from stepwise.types import Usage
from tests.worlds import adder, problem

SPEEDS = {"small": Speed(0.001, 0.02, 0.05), "large": Speed(0.004, 0.07, 0.3)}
COST = Seconds(SPEEDS)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Timed(Around):
    """A backend whose calls take what a model of this name would, give or take the ``noise``."""

    def __init__(self, backend: ScriptedBackend, name: str, clock: Clock, noise: float = 0.0) -> None:
        super().__init__(backend)
        self.name, self.clock, self.noise = name, clock, noise
        self.draw = random.Random(1)

    async def generate(
        self, prefix: Sequence[int], sampling: Sampling, lost: Lost = unaccounted
    ) -> Completion:
        written = await self.backend.generate(prefix, sampling, lost)
        factor = self.draw.uniform(1 - self.noise, 1 + self.noise)
        self.clock.now += COST({self.name: written.usage.called()}) * factor
        return written

    async def close(self) -> None: ...


def timed(clock: Clock, *, preamble: bool = True, opening: str = "", cost: CostModel = COST) -> Engine:
    """The adders of `tests.worlds`, which read an ``opening`` before each question."""
    backends = {"small": adder(5), "large": adder()}
    for backend in backends.values():
        script = backend._script
        backend._script = lambda text, script=script: script(text.removeprefix(opening))  # type: ignore[misc]
    return Engine(
        {name: Timed(backend, name, clock) for name, backend in backends.items()},
        prompt=opening + "{question}\n",
        rule=StepRule("\n", 64, 32),
        cost=cost,
        preamble=preamble,
    )


@pytest.mark.parametrize(("noise", "within"), [(0.0, 1e-3), (0.05, 0.06)])
def test_speeds_are_recovered_from_calls(noise: float, within: float) -> None:
    clock = Clock()
    backends = {
        name: Timed(ScriptedBackend(lambda text: "x" * (5 + len(text) % 40)), name, clock, noise)
        for name in SPEEDS
    }
    calls = asyncio.run(
        observe(backends, "Read this. ", ["ab", "cdefg", "h"], load=1, calls=400, seed=0, clock=clock)
    )
    assert len(calls) == 400
    fitted = {name: fit([call for call in calls if call.model == name], name) for name in SPEEDS}
    for name, speed in SPEEDS.items():
        for part in ("prefill", "decode", "call"):
            assert getattr(fitted[name], part) == pytest.approx(getattr(speed, part), rel=within)
    assert max(errors(Seconds(fitted), calls)) < noise + within


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="the kernel does not count")
def test_only_what_a_process_computes_counts() -> None:
    began = processor_seconds([os.getpid()])
    ends = time.process_time() + 0.05
    while time.process_time() < ends:
        pass
    spent = processor_seconds([os.getpid()]) - began
    assert spent >= 0.04
    assert processor_seconds([]) == 0.0


def test_too_few_calls_fit_nothing() -> None:
    with pytest.raises(ConfigError, match="2 of model 'small' are too few"):
        fit([Call("small", Usage(10, 0, 5), 1.0)] * 2, "small")


@pytest.mark.parametrize(
    "router", [Always("large"), ThresholdRouter(Confidence(), 0.5, "c", small="small", large="large")]
)
def test_a_chain_costs_the_seconds_of_its_calls(router: Always | ThresholdRouter) -> None:
    clock = Clock()
    trace = timed(clock).solve_sync(problem(1, 7, 2, 9), router)
    assert trace.answer == "19"
    assert trace.cost == pytest.approx(clock.now)
    assert trace.cost == pytest.approx(sum(step.cost for step in trace.steps))
    assert trace.cost == pytest.approx(COST(trace.usage))
    if isinstance(router, ThresholdRouter):
        assert sum(usage.calls for usage in trace.usage.values()) == len(trace.steps) + 2  # two rewritten


def test_what_the_server_has_read_for_others_takes_no_time() -> None:
    """Without the preamble a chain costs what it takes on a warm server, and its comparison too."""
    opening = "Worked examples. " * 20
    clock = Clock()
    cold, warm = (timed(clock, preamble=charged, opening=opening) for charged in (True, False))
    for engine in (cold, warm):
        engine.solve_sync(problem(1, 7), Always("large"))
        began = clock.now
        trace = engine.solve_sync(problem(3, 2), Always("large"))
        spare = len(opening) * SPEEDS["large"].prefill * (engine is cold)
        assert trace.cost == pytest.approx(clock.now - began + spare)
    assert cold.cost_alone(trace, "large") - warm.cost_alone(trace, "large") == pytest.approx(
        len(opening) * SPEEDS["large"].prefill
    )


def test_a_cold_server_is_charged_without_the_preamble_too() -> None:
    clock = Clock()
    trace = timed(clock, preamble=False, opening="Worked examples. ").solve_sync(problem(1), Always("large"))
    assert trace.cost == pytest.approx(clock.now)


def test_speeds_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "speeds.yaml"
    save_speeds(Speeds("a laptop", "scripted", "none", 8, 90, 0.03, SPEEDS), path)
    assert load_speeds(path) == COST


def test_figures_of_ways_that_answer_side_by_side() -> None:
    fast = [Answered(f"t{i}", 10, i < 2, seconds=1.0, expected=1.1) for i in range(4)]
    slow = [Answered("t0", 10, True, seconds=2.0) for _ in range(4)]
    figures = summary(
        {
            "large": [[*slow, Answered("", 40, False, 4.0)]],
            "stepwise": [
                [*fast[:2], Answered("", 20, False, 1.0)],
                [*fast[2:], Answered("", 20, False, 1.5)],
            ],
        }
    )
    assert figures["large"]["median_s"] == 2.0 and figures["large"]["tokens_per_s"] == 10.0
    assert figures["large"]["same_text"] == 4 and figures["stepwise"]["same_text"] == 1
    assert figures["stepwise"]["tokens_per_s"] == 16.0 and figures["stepwise"]["right"] == 0.5
    assert figures["stepwise"]["expected_off"]["p90"] == pytest.approx(0.1)
    assert "expected_off" not in figures["large"]
