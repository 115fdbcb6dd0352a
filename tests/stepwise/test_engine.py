"""The engine: one transition, exact accounting, failures as data."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwise.backends.scripted import ScriptedBackend
from stepwise.cost import CostModel, Dollars, Flops, Price, Tokens
from stepwise.engine import MAX_QUESTION, Engine
from stepwise.errors import BackendError, ConfigError
from stepwise.routers import Always, Confidence, FirstTokenEntropy, Random, ThresholdRouter
from stepwise.stepping import StepRule
from stepwise.types import Decision, Look, Router, Trace, Usage
from tests.worlds import SIZES, adder, engine, problem

numbers = st.lists(st.integers(0, 9), min_size=1, max_size=8)
routers: list[Router] = [
    Always("small"),
    Always("large"),
    Random(0.5),
    ThresholdRouter(Confidence("min"), 0.5, "confidence"),
    ThresholdRouter(FirstTokenEntropy(), 0.58, "entropy"),
]


def test_the_large_model_repairs_what_the_small_one_doubts() -> None:
    world = engine()
    trace = world.solve_sync(problem(1, 7, 2), routers[3])
    assert [step.model for step in trace.steps] == ["small", "large", "small", "small"]
    assert trace.answer == "10" and trace.stop == "answered"
    assert trace.steps[1].draft is not None and trace.steps[1].draft.text == "1 + 7 = 9.\n"
    assert world.solve_sync(problem(1, 7, 2), Always("small")).answer == "11"


@given(numbers, st.sampled_from(routers), st.sampled_from(["flops", "tokens", "dollars"]))
@settings(max_examples=150, deadline=None)
def test_cost_is_the_sum_of_measured_usage(numbers: list[int], router: Router, unit: str) -> None:
    prices = {name: Price(1.0 * size, 4.0 * size, 0.1 * size) for name, size in SIZES.items()}
    units: dict[str, CostModel] = {"flops": Flops(SIZES), "tokens": Tokens(), "dollars": Dollars(prices)}
    cost = units[unit]
    world = engine(cost=cost)
    trace = world.solve_sync(problem(*numbers), router)
    assert trace.cost == pytest.approx(cost(trace.usage))
    for name, backend in world.backends.items():
        assert isinstance(backend, ScriptedBackend)
        served = sum(backend.calls, Usage())
        charged = trace.usage.get(name, Usage())
        # Nothing else ran on these servers, so the chain is charged exactly what they counted.
        assert charged.prompt == served.prompt and charged.cached == served.cached
        assert charged.completion + charged.discarded == served.completion


@given(numbers, st.sampled_from(routers))
@settings(max_examples=100, deadline=None)
def test_replaying_a_trace_by_hand_gives_the_same_trace(numbers: list[int], router: Router) -> None:
    trace = engine().solve_sync(problem(*numbers), router)
    world = engine()

    async def replay() -> Trace:
        again = world.start(trace.problem)
        for step in trace.steps:
            again = await world.look(again, router.look)
            assert step.decision is not None
            again = await world.advance(again, step.model, step.decision)
        return again

    assert world.run(replay()) == trace


def test_another_chain_on_the_same_server_does_not_make_a_chain_cheaper() -> None:
    world = engine()
    first = world.solve_sync(problem(1, 2, 3), Always("large"))
    second = world.solve_sync(problem(1, 2, 3), Always("large"))
    assert first.cost == second.cost


def test_a_switch_pays_for_reading_what_the_other_model_wrote() -> None:
    world = engine()

    async def switch() -> Trace:
        trace = world.start(problem(1, 2, 3))
        for model in ("small", "small", "large"):
            trace = await world.advance(trace, model)
        return trace

    usage = world.run(switch()).steps[2].usage["large"]
    assert usage.cached == 0
    assert usage.prompt == len("1 2 3\n0 + 1 = 1.\n1 + 2 = 3.\n")


@pytest.mark.parametrize("look", ["probe", "after_draft"])
def test_an_accepted_draft_costs_no_more_than_writing_the_step(look: Look) -> None:
    class Accept:
        name = "accept"

        def __init__(self) -> None:
            self.look: Look = look

        def decide(self, trace: Trace) -> Decision:
            assert trace.draft is not None
            assert len(trace.draft.token_ids) == 1 if look == "probe" else trace.draft.finish != "length"
            return Decision("small")

    routed = engine().solve_sync(problem(1, 2, 3), Accept())
    plain = engine().solve_sync(problem(1, 2, 3), Always("small"))
    assert routed.text == plain.text
    completion = sum(usage.completion for usage in routed.usage.values())
    assert completion == sum(usage.completion for usage in plain.usage.values())
    assert all(usage.discarded == 0 for usage in routed.usage.values())


def test_a_rejected_draft_is_charged_as_discarded() -> None:
    trace = engine().solve_sync(problem(9), ThresholdRouter(Confidence("min"), 0.5, "confidence"))
    assert trace.steps[0].usage["small"].discarded == len("0 + 9 = 10.\n")
    assert trace.steps[0].usage["small"].completion == 0


async def test_solve_many_yields_every_problem_and_bounds_what_is_in_flight() -> None:
    running, peak = 0, 0

    async def before(_: str) -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0)
        running -= 1

    backend = ScriptedBackend(lambda _: "The answer is 1.", before=before)
    world = Engine({"m": backend}, prompt="{question}\n", rule=StepRule(), cost=Tokens())
    problems = [replace(problem(1), id=str(i)) for i in range(40)]
    seen = [trace.problem.id async for trace in world.solve_many(problems, Always("m"), concurrency=7)]
    assert sorted(seen, key=int) == [str(i) for i in range(40)]
    assert 1 < peak <= 7


async def test_results_come_as_they_finish_not_in_order() -> None:
    gate = asyncio.Event()

    async def before(text: str) -> None:
        if text.startswith("slow"):
            await gate.wait()

    backend = ScriptedBackend(lambda _: "The answer is 1.", before=before)
    world = Engine({"m": backend}, prompt="{question}\n", rule=StepRule(), cost=Tokens())
    problems = [replace(problem(1), id=name, question=name) for name in ("slow", "quick")]
    order = []
    async for trace in world.solve_many(problems, Always("m")):
        order.append(trace.problem.id)
        gate.set()
    assert order == ["quick", "slow"]


async def test_a_dead_model_marks_its_trace_and_the_run_goes_on() -> None:
    async def before(text: str) -> None:
        if text.startswith("bad"):
            raise BackendError("the server is gone.")

    backend = ScriptedBackend(lambda _: "The answer is 1.", before=before)
    world = Engine({"m": backend}, prompt="{question}\n", rule=StepRule(), cost=Tokens())
    problems = [replace(problem(1), id=name, question=name) for name in ("bad", "good", "  ")]
    traces = {t.problem.id: t async for t in world.solve_many(problems, Always("m"))}
    assert traces["bad"].stop == "error" and traces["bad"].error == "the server is gone."
    assert traces["good"].stop == "answered"
    assert traces["  "].stop == "error" and "question must not be empty" in str(traces["  "].error)


def test_a_chain_ends_at_its_limits() -> None:
    assert engine(max_steps=2).solve_sync(problem(1, 2, 3), Always("small")).stop == "max_steps"
    endless = ScriptedBackend(lambda _: "x" * 1000)
    world = Engine({"m": endless}, prompt="{question}\n", rule=StepRule("\n", 8), cost=Tokens())
    trace = world.solve_sync("q", Always("m"))
    assert trace.stop == "max_tokens" and len(trace.steps) == 1
    narrow = ScriptedBackend(lambda text: "ab\n", context=40)
    world = Engine({"m": narrow}, prompt="{question}\n", rule=StepRule("\n", 8), cost=Tokens())
    trace = world.solve_sync("q", Always("m"))
    assert trace.stop in ("context", "max_tokens") and len(trace.text) >= 30


def test_bad_input_is_named() -> None:
    world = engine()
    with pytest.raises(ConfigError, match="question must not be empty"):
        world.solve_sync("  \n", Always("small"))
    with pytest.raises(ConfigError, match="question is too long"):
        world.solve_sync("1 " * MAX_QUESTION, Always("small"))
    with pytest.raises(ConfigError, match="model must be one of small, large, not 'huge'"):
        world.solve_sync(problem(1), Always("huge"))
    with pytest.raises(ConfigError, match="prompt must contain"):
        Engine({"m": adder()}, prompt="no place", rule=StepRule(), cost=Tokens())
    done = world.solve_sync(problem(1), Always("small"))
    with pytest.raises(ConfigError, match="has already ended"):
        world.run(world.advance(done, "small"))


def test_questions_with_braces_are_taken_literally() -> None:
    backend = ScriptedBackend(lambda text: f"The answer is {text.count('{')}.")
    world = Engine({"m": backend}, prompt="{question}\n", rule=StepRule(), cost=Tokens())
    assert world.solve_sync("a {set} of {x}", Always("m")).answer == "2"
