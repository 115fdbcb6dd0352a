"""The engine: one transition, exact accounting, failures as data."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwise.backends.scripted import Script, ScriptedBackend, ScriptedGeneration
from stepwise.engine.backend import Chunk, Completion, Lost, Sampling, unaccounted
from stepwise.engine.chain import Chain
from stepwise.engine.cost import CostModel, Dollars, Flops, Price, Tokens
from stepwise.engine.engine import MAX_QUESTION, Engine
from stepwise.engine.prefix import Prefix
from stepwise.engine.solution import Delta, Event
from stepwise.engine.stop_rules import StepRule
from stepwise.errors import BackendError, ConfigError, StepwiseError
from stepwise.routers import Always, Confidence, FirstTokenEntropy, LargeFirst, Random, ThresholdRouter
from stepwise.types import Decision, Look, Router, Step, Trace, Usage
from tests.worlds import SIZES, Crowd, adder, engine, problem

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


@given(numbers, st.sampled_from(routers), st.sampled_from(["flops", "tokens", "dollars"]), st.booleans())
@settings(max_examples=200, deadline=None)
def test_cost_is_the_sum_of_measured_usage(
    numbers: list[int], router: Router, unit: str, lookahead: bool
) -> None:
    prices = {name: Price(1.0 * size, 4.0 * size, 0.1 * size) for name, size in SIZES.items()}
    units: dict[str, CostModel] = {"flops": Flops(SIZES), "tokens": Tokens(), "dollars": Dollars(prices)}
    cost = units[unit]
    world = engine(cost=cost, lookahead=lookahead)
    trace = world.solve_sync(problem(*numbers), router)
    assert trace.cost == pytest.approx(cost(trace.usage))
    for name, backend in world.backends.items():
        assert isinstance(backend, ScriptedBackend)
        served = sum(backend.calls, Usage())
        charged = trace.usage.get(name, Usage())
        # Nothing else ran on these servers, so the chain is charged exactly what they counted.
        # Only what an overrun happened to anticipate is not credited to it.
        assert charged.prompt == served.prompt
        assert charged.cached <= served.cached if lookahead else charged.cached == served.cached
        assert charged.completion + charged.discarded == served.completion


@given(numbers, st.sampled_from(routers))
@settings(max_examples=100, deadline=None)
def test_replaying_a_trace_by_hand_gives_the_same_trace(numbers: list[int], router: Router) -> None:
    trace = engine().solve_sync(problem(*numbers), router)
    world = engine()

    async def replay() -> Trace:
        again = world.start(trace.problem)
        for step in trace.steps:
            await world.look(again, router.look)
            assert step.decision is not None
            await world.advance(again, step.model, step.decision)
        return again.trace

    assert world.run(replay()) == trace


@given(numbers, st.sampled_from(routers))
@settings(max_examples=100, deadline=None)
def test_running_on_changes_no_step(numbers: list[int], router: Router) -> None:
    stepwise, onward = (engine(lookahead=on).solve_sync(problem(*numbers), router) for on in (False, True))
    for a, b in zip(stepwise.steps, onward.steps, strict=True):
        assert (a.text, a.token_ids, a.model, a.finish) == (b.text, b.token_ids, b.model, b.finish)
        assert a.signals == pytest.approx(b.signals) and a.decision == b.decision
    assert onward.stop == stepwise.stop


def test_a_chain_that_runs_on_reads_its_prompt_once() -> None:
    trace = engine(lookahead=True).solve_sync(problem(1, 2, 3), Always("large"))
    usage = trace.usage["large"]
    assert usage.prompt == len("1 2 3\n") and usage.discarded == 0
    assert usage.completion == len(trace.text) + 1


def test_the_overrun_after_a_switch_is_charged_to_the_step_that_followed() -> None:
    world = engine(lookahead=True)

    async def switch() -> Trace:
        chain = world.start(problem(1, 2, 3))
        await world.advance(chain, "small")
        await world.advance(chain, "large")
        await world.abandon(chain)
        return chain.trace

    usage = world.run(switch()).steps[1].usage["small"]
    assert usage.discarded == 1 and usage.prompt == usage.completion == 0  # 11 tokens, read in threes


async def test_events_tell_text_as_it_comes_and_steps_as_they_end() -> None:
    world = engine(lookahead=True)
    chain = world.solve(problem(1, 2), Always("small"))
    text, steps = "", []
    async for event in chain.events():
        if isinstance(event, Delta):
            text += event.text
        else:
            steps.append(event)
            assert text == "".join(step.text for step in steps)
    assert chain.trace is not None and tuple(steps) == chain.trace.steps and chain.trace.stop == "answered"


async def test_the_text_of_a_draft_is_told_only_once_it_is_accepted() -> None:
    world = engine(lookahead=True)
    events = [event async for event in world.solve(problem(1, 7), routers[3]).events()]
    told = "".join(event.text for event in events if isinstance(event, Delta))
    assert told == "1 + 7 = 8.\n"  # the large model's step, which is decided before it is written
    assert [event.model for event in events if isinstance(event, Step)] == ["small", "large", "small"]


async def test_leaving_the_steps_early_stops_the_generation() -> None:
    stopped = asyncio.Event()

    async def before(text: str) -> None:
        if text.count("\n") > 1:
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()

    backend = ScriptedBackend(lambda _: "one more\n", before=before)
    world = Engine({"m": backend}, prompt="{question}\n", rule=StepRule(), cost=Tokens())
    async for step in world.solve("q", Always("m")):
        assert step.text == "one more\n"
        break
    await asyncio.wait_for(stopped.wait(), 10)


def test_running_from_within_the_loop_is_refused_not_waited_for() -> None:
    world = engine()

    async def within() -> Trace:
        return world.solve_sync(problem(1, 2), Always("small"))

    with pytest.raises(StepwiseError, match="from within the engine's event loop; await it"):
        world.run(within())


async def test_another_model_finishes_for_one_that_cannot_be_run() -> None:
    async def dead(_: str) -> None:
        raise BackendError("the server is gone.")

    broken = ScriptedBackend(lambda _: "", before=dead)
    world = Engine(
        {"small": adder(5), "large": broken},
        prompt="{question}\n",
        rule=StepRule(),
        cost=Tokens(),
        failover=True,
    )
    trace = await world.solve(problem(1, 7, 2), routers[3])
    assert trace.stop == "answered" and {step.model for step in trace.steps} == {"small"}
    assert trace.steps[1].decision is not None
    assert "large cannot be run (the server is gone.)" in trace.steps[1].decision.reason
    world.failover = False
    assert (await world.solve(problem(1, 7, 2), routers[3])).error == "the server is gone."


@pytest.mark.parametrize("failing_at", [0, 2])
async def test_no_model_takes_over_a_step_that_somebody_has_heard_the_beginning_of(failing_at: int) -> None:
    class Breaking(ScriptedBackend):
        def begin(self, prefix: Sequence[int], sampling: Sampling) -> ScriptedGeneration:
            generation = super().begin(prefix, sampling)
            read, reads = generation.read, iter(range(100))

            async def breaking(mark: str = "", limit: int = 1) -> Chunk:
                if next(reads) >= failing_at:
                    raise BackendError("the server is gone.")
                return await read(mark, limit)

            generation.read = breaking  # type: ignore[method-assign]
            return generation

    world = Engine(
        {"small": adder(), "large": Breaking(lambda _: "something else\n")},
        prompt="{question}\n", rule=StepRule(), cost=Tokens(), failover=True,
    )  # fmt: skip
    heard: list[Event] = []
    trace = await world.solve(problem(1, 7, 2), LargeFirst(99)).finish(heard.append)
    told = "".join(event.text for event in heard if isinstance(event, Delta))
    if failing_at:
        assert trace.stop == "error" and told and "something else".startswith(told)
    else:
        assert trace.stop == "answered" and trace.text.startswith(told)


def test_a_chain_that_repeats_itself_ends() -> None:
    for period in (1, 2, 3):
        lines = [
            f"line {i} of what a model says when it has lost its way, and at great length\n"
            for i in range(period)
        ]
        loop = ScriptedBackend(lambda text, lines=lines: lines[text.count("line") % len(lines)])  # type: ignore[misc]
        world = Engine({"m": loop}, prompt="{question}\n", rule=StepRule(), cost=Tokens())
        trace = world.solve_sync("q", Always("m"))
        assert trace.stop == "repeated" and len(trace.steps) == 4 * period


def test_models_with_other_tokenizers_exchange_text_and_keep_their_own_tokens() -> None:
    class Shouting(ScriptedBackend):
        """Reads and writes the same text in tokens of its own."""

        def __init__(self, script: Script) -> None:
            super().__init__(script)
            self.tokenizer = "shouting"
            self.read: list[str] = []

        def encode(self, text: str, *, first: bool = True) -> tuple[int, ...]:
            return tuple(ord(c) + 1000 for c in ("^" if first else "") + text)

        async def generate(
            self, prefix: Sequence[int], sampling: Sampling, lost: Lost = unaccounted
        ) -> Completion:
            self.read.append("".join(chr(i - 1000) for i in prefix))
            done = await super().generate([ord("x")], sampling)
            return replace(done, token_ids=self.encode(done.text, first=False))

    other = Shouting(lambda _: "mine\nmore\n")
    plain = ScriptedBackend(lambda text: "yours</think>\nand\n")
    world = Engine(
        {"a": plain, "b": other},
        prompt="{question}\n",
        prompts={"b": "{question}!\n"},
        rule=StepRule(),
        cost=Tokens(),
        think_ends={"a": "</think>"},
    )

    async def mixed() -> Trace:
        chain = world.start("q")
        for model in ("a", "b", "b", "a"):
            await world.advance(chain, model)
        return chain.trace

    trace = world.run(mixed())
    assert other.read == ["^q!\nyours\n", "^q!\nyours\nmine\n"]
    assert trace.text == "yours</think>\nmine\nmine\nyours</think>\n"


@given(st.lists(st.lists(st.integers(0, 999), max_size=150), min_size=1, max_size=5), st.integers(0, 700))
def test_a_prefix_is_its_tokens_however_it_grew(parts: list[list[int]], cut: int) -> None:
    flat = [token for part in parts for token in part]
    grown = Prefix()
    for part in parts:
        grown.digest()
        grown = grown.extend(part)
    branch = Prefix(flat[:cut]).extend([1])
    again = Prefix(flat[:cut])
    assert (list(again.extend([1])), list(again.extend([2]))) == ([*flat[:cut], 1], [*flat[:cut], 2])
    assert list(grown) == flat and len(grown) == len(flat) and grown.digest() == Prefix(flat).digest()
    assert branch.digest() != Prefix([*flat[:cut], 2]).digest()
    assert grown.tail(3) == flat[-3:]


def test_another_chain_on_the_same_server_does_not_make_a_chain_cheaper() -> None:
    world = engine()
    first = world.solve_sync(problem(1, 2, 3), Always("large"))
    second = world.solve_sync(problem(1, 2, 3), Always("large"))
    assert first.cost == second.cost


def test_a_switch_pays_for_reading_what_the_other_model_wrote() -> None:
    world = engine()

    async def switch() -> Trace:
        chain = world.start(problem(1, 2, 3))
        for model in ("small", "small", "large"):
            await world.advance(chain, model)
        return chain.trace

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
    crowd = Crowd()
    backend = ScriptedBackend(lambda _: "The answer is 1.", before=crowd)
    world = Engine({"m": backend}, prompt="{question}\n", rule=StepRule(), cost=Tokens())
    problems = [replace(problem(1), id=str(i)) for i in range(40)]
    seen = [trace.problem.id async for trace in world.solve_many(problems, Always("m"), concurrency=7)]
    assert sorted(seen, key=int) == [str(i) for i in range(40)]
    assert 1 < crowd.peak <= 7


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
    world = Engine({"m": endless}, prompt="{question}\n", rule=StepRule("\n", 8, max_tokens=8), cost=Tokens())
    trace = world.solve_sync("q", Always("m"))
    assert trace.stop == "max_tokens" and len(trace.steps) == 1
    narrow = ScriptedBackend(lambda text: "ab\n", context=40)
    patient = StepRule("\n", 8, max_repeats=100)
    world = Engine({"m": narrow}, prompt="{question}\n", rule=patient, cost=Tokens())
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
        world.run(world.advance(Chain(done), "small"))


def test_questions_with_braces_are_taken_literally() -> None:
    backend = ScriptedBackend(lambda text: f"The answer is {text.count('{')}.")
    world = Engine({"m": backend}, prompt="{question}\n", rule=StepRule(), cost=Tokens())
    assert world.solve_sync("a {set} of {x}", Always("m")).answer == "2"


@pytest.mark.parametrize("router", routers)
@pytest.mark.parametrize("running_on", [False, True])
@pytest.mark.parametrize("limit", [1, 9, 10, 11, 12, 30, 1000])
def test_a_request_may_want_fewer_tokens(router: Router, running_on: bool, limit: int) -> None:
    world = engine(lookahead=running_on)
    whole = world.solve_sync(problem(1, 7, 2), router)
    cut = world.with_sampling(max_tokens=limit).solve_sync(problem(1, 7, 2), router)
    assert len(cut.text) == min(limit, len(whole.text))
    assert cut.stop == (whole.stop if limit > len(whole.text) else "max_tokens")
    assert world.solve_sync(problem(1, 7, 2), router) == whole, "the engine itself is as it was"
    with pytest.raises(ConfigError, match="max_tokens must be at least 1"):
        world.with_sampling(max_tokens=0)


async def test_the_listener_hears_an_accepted_probe_too() -> None:
    chain = engine(lookahead=True).solve(
        problem(1, 7, 2), ThresholdRouter(FirstTokenEntropy(), 9.0, "entropy")
    )
    events = [event async for event in chain.events()]
    told = "".join(event.text for event in events if isinstance(event, Delta))
    assert chain.trace is not None and told == chain.trace.text
