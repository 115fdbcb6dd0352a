"""Decision logs: what is written is what was decided, and estimates are right where the truth is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise, product
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwise.errors import ConfigError
from stepwise.evaluation.logged import estimators
from stepwise.evaluation.logged.chains import (
    Decided,
    Label,
    Line,
    LoggedChain,
    LoggedStep,
    logged_chain,
    read_log,
    seen_traces,
)
from stepwise.evaluation.logged.estimators import DOUBLY_ROBUST, PER_DECISION, SELF_NORMALISED
from stepwise.evaluation.logged.exploring import Exploring
from stepwise.evaluation.logged.shadow import shadowed
from stepwise.evaluation.logged.weighed import usable, weigh
from stepwise.routers import Always, Confidence, FirstTokenEntropy, LargeFirst, ThresholdRouter
from stepwise.types import Decision, Look, Problem, Router, Signals, Trace
from tests import worlds

CONFIDENCE = ThresholdRouter(Confidence("min"), 0.5, "confidence")
PROBLEMS = [worlds.problem(i % 9 + 1, 7, 3 * i % 9 + 1) for i in range(12)]


class Live:
    """A router that keeps what it decided."""

    def __init__(self, router: Router) -> None:
        self.name, self.look, self._router = router.name, router.look, router
        self.decisions: dict[tuple[str, int], str] = {}

    def decide(self, trace: Trace) -> Decision:
        decision = self._router.decide(trace)
        self.decisions[trace.problem.id, len(trace.steps)] = decision.model
        return decision


def explored(router: Router, share: float, problems: Sequence[Problem] = PROBLEMS) -> list[LoggedChain]:
    engine = worlds.engine()
    exploring = Exploring(router, engine.models, share)
    chains = []
    for problem in problems:
        trace = engine.solve_sync(problem, exploring)
        decided = exploring.decided[problem.id]
        chain = logged_chain(router, engine, trace, engine.cost_alone(trace, "large"), decided=decided)
        chains.append(msgspec.structs.replace(chain, correct=float(trace.answer == problem.answer)))
    return chains


def write(path: Path, lines: Sequence[Line]) -> Path:
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    return path


@pytest.mark.parametrize(
    "router", [CONFIDENCE, ThresholdRouter(FirstTokenEntropy(), 0.5, "entropy"), LargeFirst(2)]
)
def test_a_router_decides_on_the_log_as_it_did_on_the_chain(router: Router, tmp_path: Path) -> None:
    live = Live(router)
    chains = explored(live, 0.5)
    for chain in read_log(write(tmp_path / "log.jsonl", chains)):
        for position, (_, _, trace) in enumerate(seen_traces(chain)):
            assert router.decide(trace).model == live.decisions[chain.id, position]
        assert chain.cost == pytest.approx(sum(step.cost for step in chain.steps))


def test_the_chances_that_are_logged_are_those_that_are_drawn_by() -> None:
    problems = [Problem(f"p{i}", "1 7", "8") for i in range(200)]
    chains = explored(CONFIDENCE, 0.4, problems)
    first = [chain.steps[0] for chain in chains]
    decided = first[0].decided
    assert decided is not None and decided.wanted == "small"
    assert decided.chances == {"small": pytest.approx(0.8), "large": pytest.approx(0.2)}
    assert np.mean([step.model == "large" for step in first]) == pytest.approx(0.2, abs=0.08)
    assert len({chain.steps[0].model == chain.steps[1].model for chain in chains}) == 2


def test_nothing_is_drawn_where_nothing_shall_be() -> None:
    engine, router = worlds.engine(), Exploring(CONFIDENCE, ("small", "large"), 0.0)
    for problem in PROBLEMS:
        assert engine.solve_sync(problem, router).text == engine.solve_sync(problem, CONFIDENCE).text
    with pytest.raises(ConfigError, match=r"explore must lie in \[0, 1\], not 1.5"):
        Exploring(CONFIDENCE, ("small", "large"), 1.5)


def test_a_router_that_chooses_once_is_drawn_once() -> None:
    engine = worlds.engine()
    exploring = Exploring(Always("small"), engine.models, 1.0)
    for problem in PROBLEMS:
        trace = engine.solve_sync(problem, exploring)
        assert len(worlds.writers(trace)) == 1
        first, *later = exploring.decided[problem.id].values()
        assert first.chances == {"small": 0.5, "large": 0.5}
        assert all(list(decided.chances.values()) == [1.0] for decided in later)


def test_labels_are_joined_and_torn_lines_dropped(tmp_path: Path) -> None:
    chains = [msgspec.structs.replace(chain, correct=None) for chain in explored(CONFIDENCE, 0.2)]
    log = write(tmp_path / "log.jsonl", [*chains, Label(chains[0].id, 1.0), Label(chains[1].id, 1.0)])
    with log.open("ab") as file:
        file.write(msgspec.json.encode(chains[2])[:100])
    labels = write(tmp_path / "labels.jsonl", [Label(chains[1].id, 0.0)])
    correct = [chain.correct for chain in read_log(log, labels)]
    assert correct[:3] == [1.0, 0.0, None] and len(correct) == len(chains)
    (tmp_path / "other").write_text("{}\n[]\n")
    with pytest.raises(ConfigError, match="holds no chains and no labels"):
        read_log(tmp_path / "other")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_log(tmp_path / "missing")


def test_what_a_log_does_not_hold_is_refused() -> None:
    chains = explored(CONFIDENCE, 0.2)
    with pytest.raises(ConfigError, match="looks 'before', the log's looked 'after_draft'"):
        weigh(chains, LargeFirst(2))
    with pytest.raises(ConfigError, match="no finished chain"):
        weigh([], CONFIDENCE)
    with pytest.raises(ConfigError, match="it chooses 'medium', the log's models are small, large"):
        weigh(chains, Always("medium"))
    other = [msgspec.structs.replace(chain, unit="$") for chain in chains]
    with pytest.raises(ConfigError, match="differ in models, unit"):
        weigh([*chains, *other], CONFIDENCE)
    broken = msgspec.structs.replace(chains[0], degraded=True)
    missed = msgspec.structs.replace(
        chains[1], steps=tuple(msgspec.structs.replace(step, decided=None) for step in chains[1].steps)
    )
    assert usable([broken, missed, chains[2]]) == [chains[2]]


# A world of which everything is known: three decisions between "a" and "b", each drawn by itself.

STEPS, SIGNALS = 3, Signals(-0.1, -0.2, 0.3, 0.4, 5)


class Fixed:
    """Chooses by position."""

    name = "fixed"
    look: Look = "after_draft"

    def __init__(self, *models: str) -> None:
        self._models = models

    def decide(self, trace: Trace) -> Decision:
        return Decision(self._models[len(trace.steps)])


def chain_of(models: Sequence[str], chances: Sequence[float], name: str = "c") -> tuple[LoggedChain, float]:
    """A chain, and how likely it is. "b" is dearer and right more often, more so after another "b"."""
    steps, probability = [], 1.0
    for model, b in zip(models, chances, strict=True):
        chance = {"a": 1 - b, "b": b}
        probability *= chance[model]
        decided = Decided("a", chance, None, 0.0, SIGNALS, 5)
        steps.append(LoggedStep(model, 5, SIGNALS, 1.0 + 2.0 * (model == "b"), decided=decided))
    pairs = sum(x == y == "b" for x, y in pairwise(models))
    look: Look = "after_draft"
    chain = LoggedChain(
        name, 0.0, "r", None, look, ("a", "b"), "$", {}, tuple(steps),
        sum(step.cost for step in steps), 9.0, "answered", 10,
        correct=0.2 + 0.2 * pairs + 0.1 * (models[0] == "b"),
    )  # fmt: skip
    return chain, probability


def all_chains(chances: Sequence[float]) -> Iterator[tuple[LoggedChain, float]]:
    for models in product("ab", repeat=STEPS):
        yield chain_of(models, chances)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=STEPS, max_size=STEPS),
    st.sampled_from(list(product("ab", repeat=STEPS))),
)
def test_every_estimator_is_exact_on_what_happens_in_proportion(
    tenths: list[int], choices: tuple[str, ...]
) -> None:
    """A log in which each chain is as frequent as it is likely, in both halves."""
    chances = [tenth / 10 for tenth in tenths]
    chains, probabilities = zip(*all_chains(chances), strict=True)
    often = [2 * round(1000 * probability) for probability in probabilities]
    weighed = weigh(chains, Fixed(*choices)).rows(np.repeat(np.arange(len(chains)), often))
    true, _ = chain_of(choices, chances)
    for estimates, truth in (
        (estimators.cost(weighed, replicates=0), true.cost / true.alone),
        (estimators.accuracy(weighed, replicates=0), true.correct),
    ):
        for name in (PER_DECISION, SELF_NORMALISED, DOUBLY_ROBUST):
            assert estimates[name].value == pytest.approx(truth), name


def test_intervals_hold_the_truth_and_narrow() -> None:
    rng = np.random.default_rng(0)
    world = list(all_chains([0.3, 0.5, 0.4]))
    target = Fixed("b", "a", "b")
    truth = chain_of("bab", [0.5] * 3)[0].cost / 9
    held = dict.fromkeys((PER_DECISION, SELF_NORMALISED, DOUBLY_ROBUST), 0)
    probabilities = [probability for _, probability in world]
    weighed = weigh([chain for chain, _ in world], target)
    for trial in range(60):
        log = weighed.rows(rng.choice(len(world), 800, p=probabilities))
        for name, value in estimators.cost(log, replicates=200, seed=trial).items():
            low, high = value.interval
            held[name] += low - 1e-9 <= truth <= high + 1e-9
    assert min(held.values()) >= 51, held  # 95% of 60 is 57
    few, many = (
        estimators.cost(weighed.rows(rng.choice(8, n, p=probabilities)))[PER_DECISION] for n in (200, 3200)
    )
    assert np.diff(many.interval) < np.diff(few.interval)


def test_where_a_log_cannot_speak_it_says_so() -> None:
    chains = [chain for chain, probability in all_chains([0.5] * 3) for _ in range(100)]
    assert estimators.evidence(weigh(chains, Fixed("b", "a", "a"))).effective == pytest.approx(100)
    few = estimators.evidence(weigh(chains[:400:5], Fixed("a", "a", "a")))
    assert "are worth" in few.silent
    never = [msgspec.structs.replace(chain, steps=tuple(map(sure, chain.steps))) for chain in chains]
    barred = estimators.evidence(
        weigh([chain for chain in never if chain.steps[0].model == "a"], Fixed(*"baa"))
    )
    assert (
        barred.barred == 1.0
        and "100% of its chains come to a choice that the log never makes" in barred.silent
    )


def sure(step: LoggedStep) -> LoggedStep:
    assert step.decided is not None
    return msgspec.structs.replace(
        step, decided=msgspec.structs.replace(step.decided, chances={step.model: 1.0})
    )


def test_models_that_are_named_pay_for_no_drafts() -> None:
    engine = worlds.engine()
    problem = worlds.problem(7, 8)
    for model in ("small", "large"):
        live = engine.solve_sync(problem, Always(model))
        exploring = Exploring(
            ThresholdRouter(Confidence("min"), 0.0 if model == "large" else 9.0, "x"), engine.models, 0.0
        )
        trace = engine.solve_sync(problem, exploring)
        chain = logged_chain(exploring, engine, trace, 1.0, decided=exploring.decided[problem.id])
        assert weigh([chain], Always(model)).cost.sum() == pytest.approx(live.cost)


def test_a_shadow_says_what_staying_on_the_chain_would_have_cost() -> None:
    """By hand: three steps of 4 tokens after a prompt of 10; the router takes the draft of the second."""
    prices = {"small": (1.0, 1.0), "large": (10.0, 10.0)}
    wanted, looking, cost = ("large", "small", "large"), (14.0, 4.0, 4.0), (140.0, 40.0, 40.0)
    steps = tuple(
        LoggedStep(
            "large", 4, SIGNALS, cost[i], looking[i], Decided(wanted[i], {"large": 1.0}, 1.0, 0.0, SIGNALS, 4)
        )
        for i in range(3)
    )
    chain = LoggedChain(
        "c", 0.0, "r", None, "after_draft", ("small", "large"), "$", prices, steps, 220.0, 220.0, "answered",
        10, shadow="large", correct=1.0,
    )  # fmt: skip
    agreeing = msgspec.structs.replace(
        chain, correct=0.0,
        steps=tuple(
            msgspec.structs.replace(step, decided=Decided("large", {"large": 1.0}, 1.0, 0.0, SIGNALS, 4))
            for step in steps
        ),
    )  # fmt: skip
    routed = 140 + 40 + 10 * 4 + 22  # the large model reads the second step; all drafts are written
    assert shadowed([chain]).share.value == pytest.approx(routed / 220)
    both = shadowed([chain, agreeing])
    assert both.share.value == pytest.approx((routed + 242) / 440)
    assert both.agreed == 0.5 and both.handed == pytest.approx(1 / 6)
    assert both.accuracy == (0.0, 0.5)
    assert shadowed([msgspec.structs.replace(chain, correct=None)]).accuracy is None
    with pytest.raises(ConfigError, match="no finished chain"):
        shadowed([])
