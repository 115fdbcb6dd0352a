"""SCOPE in front of an engine: as a router, as a seed, and in the policy's observation."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

from envs.observer import Observer
from envs.tree import Tree
from stepwise.backends.scripted import ScriptedBackend
from stepwise.engine.cost import Flops
from stepwise.engine.engine import Engine
from stepwise.engine.ledger import Ledger
from stepwise.errors import BackendError, ConfigError, StepwiseError
from stepwise.routers import Always
from stepwise.routers.features import ESTIMATES, SIGNALS, observe
from stepwise.scope import AnchorSet, Fingerprint, FingerprintStore, Price, Problem, Scope
from stepwise.scope.estimators import Combination, LanguageModel, Neighbours
from stepwise.scope.estimators.base import Charge
from stepwise.scope.prompt import write
from stepwise.scope.routers import ScopePrior, ScopeRouter, Seeded
from stepwise.store.backend import StoredBackend
from stepwise.store.sqlite import SqliteStore
from stepwise.types import Estimate, Trace
from stepwise.verify import is_correct
from tests import worlds

DIGITS = (1, 2, 3, 4, 7, 8)
SUMS = [f"{a} {b} {c}" for a in DIGITS for b in DIGITS for c in DIGITS]
POOL = ("small", "large")


@pytest.fixture
def scope() -> Scope:
    """The small adder fails where a number is 5 or more, as in `tests.worlds`."""
    anchors = AnchorSet([Problem(text, text) for text in SUMS])
    store = FingerprintStore(":memory:")
    for model, cost in (("small", 1.0), ("large", 20.0)):
        right = [float(model == "large" or max(map(int, text.split())) < 5) for text in SUMS]
        price = Price(cost, cost)
        store.add(
            Fingerprint(model=model, anchor_ids=SUMS, correct=right, tokens=[40] * len(SUMS), price=price)
        )
    return Scope(anchors=anchors, fingerprints=store)


def test_the_router_takes_the_model_that_it_expects_to_be_worth_it(scope: Scope) -> None:
    engine = worlds.engine(hard=5)
    router = ScopeRouter(scope, POOL, 0.6)
    easy, hard = (engine.solve_sync(worlds.problem(*numbers), router) for numbers in ((1, 2, 3), (8, 9, 7)))
    assert worlds.writers(easy) == {"small"} and is_correct(easy)
    assert worlds.writers(hard) == {"large"} and is_correct(hard)


def test_a_change_of_the_store_reaches_a_router_at_once(scope: Scope) -> None:
    router, trace = ScopeRouter(scope, POOL, 0.6), worlds.engine(hard=5).start("8 9 7").trace
    assert router.decide(trace).model == "large"
    large = scope.fingerprints.get("large")
    scope.fingerprints.add(replace(large, correct=[0.0] * len(SUMS)))
    assert router.decide(trace).model == "small"
    scope.fingerprints.add(large)
    assert router.decide(trace).model == "large"


def test_a_seed_writes_the_first_step_and_leaves_the_rest(scope: Scope) -> None:
    engine = worlds.engine(hard=5)
    trace = engine.solve_sync(worlds.problem(8, 2, 3), Seeded(Always("small"), ScopeRouter(scope, POOL, 0.9)))
    assert [step.model for step in trace.steps] == ["large", "small", "small", "small"]
    assert trace.steps[0].decision and "seeded" in trace.steps[0].decision.reason


@dataclass(frozen=True)
class Expecting(Always):
    """Reads estimates, or says so."""

    expects = True


def test_the_prior_is_asked_once_and_while_the_draft_is_written(scope: Scope) -> None:
    """The estimate waits for the draft to have begun, which a serial engine would never reach."""
    begun = threading.Event()
    asked: list[str] = []
    engine = worlds.engine(hard=5)
    generate = engine.backends["small"].generate

    async def announce(*arguments: object) -> object:
        begun.set()
        return await generate(*arguments)  # type: ignore[arg-type]

    engine.backends["small"].generate = announce  # type: ignore[method-assign,assignment]

    class Waiting(ScopePrior):
        def __call__(self, question: str, charge: Charge) -> tuple[Estimate, ...]:
            assert begun.wait(10)
            asked.append(question)
            return super().__call__(question, charge)

    engine = engine.with_prior(Waiting(scope, POOL))

    trace = engine.solve_sync(worlds.problem(1, 2, 3), Expecting("small", look="after_draft"))
    assert asked == ["1 2 3"] and [one.model for one in trace.estimates] == list(POOL)
    engine.solve_sync(worlds.problem(1, 2, 3), Always("small", look="after_draft"))
    assert asked == ["1 2 3"], "a router that does not read estimates does not wait or pay for them"


class Verbose:
    """An estimator's backend: tells what the majority of the examples did, and what it was charged for."""

    def __init__(self, before: Callable[[str], Awaitable[None]] | None = None) -> None:
        self.backend = ScriptedBackend(self._say, before=before)

    def _say(self, prompt: str) -> str:
        return write("as before", prompt.count("correct: yes}") > prompt.count("correct: no}"), 40)


def asking(scope: Scope, said: Verbose) -> Scope:
    estimator = LanguageModel(said.backend, model="oracle", samples=2, k=2)
    return Scope(anchors=scope.anchors, fingerprints=scope.fingerprints, estimator=estimator)


def charging() -> Engine:
    return worlds.engine(hard=5, cost=Flops({**worlds.SIZES, "oracle": 100}))


def test_a_chain_pays_for_the_language_model_that_estimated(scope: Scope) -> None:
    said, engine = Verbose(), charging()
    asked = asking(scope, said)
    engine = engine.with_prior(ScopePrior(asked, POOL))
    trace = engine.solve_sync(worlds.problem(8, 9, 7), ScopeRouter(asked, POOL, 0.6))
    assert worlds.writers(trace) == {"large"} and is_correct(trace)
    assert len(said.backend.calls) == 4  # two samples of each of two models, once a chain
    spent = trace.usage["oracle"]
    assert spent.completion == 0 and spent.discarded == sum(call.completion for call in said.backend.calls)
    assert spent.prompt == sum(call.prompt for call in said.backend.calls) and spent.cached > 0
    assert trace.cost == pytest.approx(engine.cost(trace.usage))
    assert trace.extra_cost == 200.0 * (spent.prompt - spent.cached + spent.discarded)
    again = engine.solve_sync(worlds.problem(8, 9, 7), ScopeRouter(asked, POOL, 0.6))
    assert again.cost == trace.cost, "what the server remembers of another chain makes none cheaper"
    alone = engine.solve_sync(worlds.problem(8, 9, 7), Always("large"))
    assert "oracle" not in alone.usage, "a router that does not read estimates does not pay for them"


def test_chains_side_by_side_are_estimated_side_by_side(scope: Scope) -> None:
    asked, engine = asking(scope, Verbose()), charging()
    engine = engine.with_prior(ScopePrior(asked, POOL))
    problems = [worlds.problem(a, b, 2) for a in (1, 2, 3) for b in (4, 8)]

    async def solve() -> list[Trace]:
        return [trace async for trace in engine.solve_many(problems, ScopeRouter(asked, POOL, 0.6))]

    traces = engine.run(solve())
    assert len(traces) == 6 and not any(trace.error for trace in traces)
    for trace in traces:
        alone = engine.solve_sync(trace.problem, ScopeRouter(asked, POOL, 0.6))
        assert (trace.cost, trace.estimates) == (alone.cost, alone.estimates)


def test_a_router_decides_by_its_own_scope(scope: Scope) -> None:
    """A prior of another scope, which a statistical router does not need, changes nothing."""
    turned = FingerprintStore(":memory:")
    for model in POOL:
        known = scope.fingerprints.get(model)
        turned.add(replace(known, correct=[1.0 - value for value in known.correct]))
    engine = worlds.engine(hard=5)
    engine = engine.with_prior(ScopePrior(Scope(anchors=scope.anchors, fingerprints=turned), POOL))
    trace = engine.solve_sync(worlds.problem(8, 9, 7), ScopeRouter(scope, POOL, 0.6))
    assert worlds.writers(trace) == {"large"}
    strange = ScopePrior(asking(scope, Verbose()), POOL)
    assert repr(strange) != repr(ScopePrior(scope, POOL))


def test_members_of_a_combination_are_charged_too(scope: Scope) -> None:
    said = Verbose()
    mixed = Combination([Neighbours(), LanguageModel(said.backend, model="oracle", samples=1)])
    one = Scope(anchors=scope.anchors, fingerprints=scope.fingerprints, estimator=mixed)
    assert one.asks == ("oracle",)
    _ = one.known
    said.backend.calls.clear()
    found = one.estimate("8 9 7", POOL)
    assert sum(each.usage["oracle"].discarded for each in found) == sum(
        call.completion for call in said.backend.calls
    )


def test_an_estimator_without_a_price_is_refused_before_any_work(scope: Scope) -> None:
    said, engine = Verbose(), worlds.engine(hard=5)
    with pytest.raises(ConfigError, match="model 'oracle' has no known size; add it to the pair"):
        engine = engine.with_prior(ScopePrior(asking(scope, said), POOL))
    assert engine.prior is None
    with pytest.raises(ConfigError, match=r"from model 'oracle'; give the engine prior=ScopePrior"):
        ScopeRouter(asking(scope, said), POOL, 0.6).decide(engine.start("1 2 3").trace)
    with pytest.raises(ConfigError, match="estimates: there is none for model 'large'"):
        scope.choose("1 2 3", POOL, 0.5, scope.estimate("1 2 3", ("small",)))


def test_what_an_estimator_and_a_draft_took_stays_charged_when_either_fails(scope: Scope) -> None:
    async def gone(_: str) -> None:
        if len(said.backend.calls) == 3:
            raise BackendError("the server is gone.")

    said, engine = Verbose(gone), charging()
    engine = engine.with_prior(ScopePrior(asking(scope, said), POOL))
    trace = engine.solve_sync(worlds.problem(1, 2), Expecting("small", look="after_draft"))
    assert trace.error == "the server is gone." and trace.usage["small"].discarded > 0
    assert trace.usage["oracle"].discarded == sum(call.completion for call in said.backend.calls) > 0
    assert trace.cost == pytest.approx(engine.cost(trace.usage))

    fine, engine = Verbose(), charging()
    engine = engine.with_prior(ScopePrior(asking(scope, fine), POOL))
    engine.run(engine.backends["small"].close())
    trace = engine.solve_sync(worlds.problem(1, 2), Expecting("small", look="after_draft"))
    assert trace.error == "the backend is closed." and len(fine.backend.calls) == 4
    assert trace.usage["oracle"].discarded == sum(call.completion for call in fine.backend.calls)


def test_waiting_for_one_call_that_fails_charges_every_chain_its_own(scope: Scope) -> None:
    """A store gives one failure to all who wait for the same completion."""
    engine = charging()
    engine = engine.with_prior(ScopePrior(asking(scope, Verbose()), POOL))
    failing = StoredBackend(worlds.adder(5), SqliteStore(":memory:"))
    engine.run(failing.close())
    engine.backends["small"] = failing

    async def solve() -> list[Trace]:
        tree = Tree(engine, "after_draft", Observer.of(["signals", "estimates"]))
        return [
            node.trace for node in await asyncio.gather(*(tree.root(worlds.problem(1, 2)) for _ in range(3)))
        ]

    traces = engine.run(solve())
    assert [trace.error for trace in traces] == ["the backend is closed."] * 3
    assert len({trace.cost for trace in traces}) == 1 and traces[0].usage["oracle"].discarded > 0


def test_what_earlier_members_took_stays_charged_when_a_later_one_fails(scope: Scope) -> None:
    first, second = Verbose(), Verbose()
    asked = ((first, "a"), (second, "b"))
    members = [LanguageModel(said.backend, model=name, samples=1, k=2) for said, name in asked]
    one = Scope(anchors=scope.anchors, fingerprints=scope.fingerprints, estimator=Combination(members))
    _ = one.known
    worlds.engine().run(second.backend.close())
    account = Ledger()
    with pytest.raises(BackendError) as failure:
        one.estimate("8 9 7", POOL, account.charge_beside)
    assert account.beside["a"].discarded > 0 and failure.value.model == "b"


def test_estimates_made_before_give_the_same_choice(scope: Scope) -> None:
    for question in ("1 2 3", "8 9 7"):
        made = scope.choose(question, POOL, 0.6)
        assert scope.choose(question, POOL, 0.6, made.estimates) == made


def test_a_policy_observes_the_estimates_only_if_it_was_trained_to() -> None:
    trace = Trace(Problem("p", "q"))
    known = replace(
        trace, estimates=(Estimate("small", 0.3, 128.0, None), Estimate("large", 0.9, 99.0, None))
    )
    assert len(observe(trace, *POOL)) == len(SIGNALS) and len(observe(known, *POOL)) == len(SIGNALS)
    assert observe(known, *POOL, ESTIMATES)[:3].tolist() == pytest.approx([0.3, 0.9, 0.25])
    with pytest.raises(StepwiseError, match="the trace has none; give the engine a prior"):
        observe(trace, *POOL, ESTIMATES)
