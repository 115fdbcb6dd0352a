"""Verified drafts: the large model reads what the small one wrote, is paid for it, and goes on from there."""

from __future__ import annotations

import math

import pytest

from stepwise.backends.scripted import STRANGE
from stepwise.errors import NoSignal
from stepwise.routers import ThresholdRouter, Verified, VerifyDoubtful
from stepwise.routers.features import VERIFIED, observe
from stepwise.types import Decision, Look, Trace
from stepwise.verify import is_correct
from tests.worlds import adder, engine, problem

ROUTER = ThresholdRouter(Verified(), 5.0, "verified")


def test_the_large_model_writes_exactly_what_it_thinks_unlikely() -> None:
    trace = engine().solve_sync(problem(1, 9, 2, 8), ROUTER)
    assert [step.model for step in trace.steps] == ["small", "large", "small", "large", "small"]
    assert is_correct(trace)
    readings = [(step.draft or step).reading for step in trace.steps]
    assert [reading.signals.min_logprob for reading in readings if reading] == pytest.approx(
        [-0.01, STRANGE, -0.01, STRANGE, -0.01]
    )
    assert {reading.model for reading in readings if reading} == {"large"}


def test_the_reader_computes_every_token_once_and_is_paid_for_it() -> None:
    world = engine()
    large = world.backends["large"]
    trace = world.solve_sync(problem(1, 9, 2, 8), ROUTER)
    paid = trace.usage["large"]
    assert paid.prompt == sum(call.prompt for call in large.calls)  # type: ignore[attr-defined]
    drafts = sum(len((step.draft or step).text) for step in trace.steps)
    replaced = sum(len(step.text) for step in trace.steps if step.draft)
    computed = paid.prompt - paid.cached
    least = len("1 9 2 8\n") + drafts
    assert least <= computed <= least + replaced + 3 * len(trace.steps)
    assert trace.cost == pytest.approx(world.cost(trace.usage))


def test_a_step_of_its_own_begins_where_the_reader_has_read_to() -> None:
    world = engine()
    chain = world.start(problem(9))
    world.run(world.look(chain, "verified"))
    assert chain.trace.draft is not None and chain.trace.draft.reading is not None
    step = world.run(world.advance(chain, "large"))
    prompt = len("9\n")
    writing = step.usage["large"].prompt - step.usage["large"].cached
    assert writing == prompt + len(chain.trace.steps[0].draft.text) + 1  # type: ignore[union-attr]


def test_a_draft_is_read_once() -> None:
    world = engine()
    chain = world.start(problem(9))
    for _ in range(2):
        world.run(world.look(chain, "verified"))
    assert len(world.backends["large"].calls) == 1  # type: ignore[attr-defined]


def test_only_doubtful_drafts_are_read() -> None:
    world = engine()
    trace = world.solve_sync(problem(1, 9, 2, 8), VerifyDoubtful(threshold=5.0, doubt=0.5))
    assert is_correct(trace)
    read = [(step.draft or step).reading is not None for step in trace.steps]
    assert read == [False, True, False, True, False]


def test_a_router_may_ask_to_see_more_once() -> None:
    class Curious:
        name = "curious"
        look: Look = "after_draft"

        def decide(self, trace: Trace) -> Decision:
            return Decision("small", look="verified")

    trace = engine().solve_sync(problem(1, 2), Curious())
    assert trace.stop == "answered" and all(step.reading for step in trace.steps)


def test_features_of_a_draft_that_nobody_has_read_are_nothing() -> None:
    world = engine()
    chain = world.start(problem(9))
    world.run(world.look(chain, "after_draft"))
    assert not observe(chain.trace, "small", "large", VERIFIED).any()
    with pytest.raises(NoSignal):
        Verified().score(chain.trace)
    world.run(world.look(chain, "verified"))
    seen = dict(zip(VERIFIED, observe(chain.trace, "small", "large", VERIFIED).tolist(), strict=True))
    assert seen["read"] == 1.0 and seen["read_min"] == -1.0
    assert seen["read_worst"] == pytest.approx(math.exp(STRANGE))


def test_a_backend_that_cannot_read_is_refused_by_name() -> None:
    world = engine()
    world.backends["large"].reads = False  # type: ignore[attr-defined]
    with pytest.raises(Exception, match="'large' to read drafts, and its backend does not tell"):
        world.solve_sync(problem(1, 2), ROUTER)


def test_what_a_model_would_write_it_thinks_likely() -> None:
    from stepwise.engine.backend import Sampling

    backend, world = adder(), engine()
    prompt = backend.encode("1 2\n")
    written = backend.encode("0 + 1 = 1.\n")
    read = world.run(backend.generate(prompt + written, Sampling(1, read=len(written))))
    assert read.signals.min_logprob == pytest.approx(-0.01) and not read.token_ids
