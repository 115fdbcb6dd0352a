"""What the anchors do not cover is said, estimated by the mean, and routed by the user's rule."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from stepwise.errors import ConfigError
from stepwise.scope import AnchorSet, Scope
from stepwise.scope.novelty import INSIDE, OUTSIDE, Novelty, trust
from stepwise.scope.reliability import Reliability
from stepwise.scope.routers import ScopeRouter
from stepwise.types import Problem, Trace
from tests.stepwise.scope import worlds

STRANGE = (
    "?",
    "\N{GRINNING FACE}",
    "Wie heißt die Hauptstadt?",
    "Write a poem about the sea and a lonely ship.",
)


@cache
def anchors() -> AnchorSet:
    return AnchorSet(worlds.problems(250))


def scope(outside: str = "best") -> Scope:
    return Scope(anchors=anchors(), fingerprints=worlds.store(anchors()), outside=outside)


def test_questions_of_the_anchors_kind_have_even_p_values() -> None:
    own = Novelty(anchors().questions)
    fresh = own([problem.question for problem in worlds.problems(400, seed=9)])
    for level in (0.1, 0.5, 0.9):
        assert abs((fresh < level).mean() - level) < 0.12
        assert abs((own.held_out < level).mean() - level) < 0.01
    assert (own(STRANGE) < OUTSIDE).all()


def test_trust_rises_from_nothing_to_all() -> None:
    ranks = np.array([0.0, OUTSIDE, (OUTSIDE + INSIDE) / 2, INSIDE, 1.0])
    assert trust(ranks).tolist() == pytest.approx([0.0, 0.0, 0.5, 1.0, 1.0])


def test_outside_an_estimate_is_the_mean_and_knows_nothing_more() -> None:
    known = scope()
    for question in STRANGE:
        for estimate, mean in zip(known.estimate(question), known.known.mean, strict=True):
            assert estimate.outside and estimate.p_interval == (0.0, 1.0)
            assert estimate.p_correct == pytest.approx(min(mean, 0.99))
    inside = known.estimate(worlds.problems(1, seed=5)[0].question)
    assert not any(estimate.outside for estimate in inside)
    for estimate in inside:
        assert estimate.p_interval
        low, high = estimate.p_interval
        assert 0 <= low <= estimate.p_correct <= high <= 1 and high - low < 0.4


def test_outside_the_rule_decides() -> None:
    for rule, model in (("best", "strong"), ("middling", "middling"), ("estimates", "weak")):
        choice = scope(rule).choose(STRANGE[-1], alpha=0.0)
        assert choice.model == model and choice.outside
        inside = scope(rule).choose(worlds.problems(1, seed=5)[0].question, alpha=0.0)
        assert inside.model == "weak" and not inside.outside
    with pytest.raises(ConfigError, match="outside must be 'best', 'estimates' or one of the models"):
        scope("strnog").choose(STRANGE[0])


def test_outside_a_budget_binds_the_best_single_model() -> None:
    known = scope()
    alone = {model: known.settings([model])[0].cost for model in worlds.ABILITY}
    budget = (alone["middling"] + alone["strong"]) / 2
    for choice in (
        known.choose(STRANGE[-1], budget=budget),
        known.choose(STRANGE[-1], None, 1.0, (), budget),
    ):
        assert choice.outside and choice.model == "middling"
    scores = known.utilities([STRANGE[-1]], budget=budget)(1.0)[:, 0]
    assert known.known.models[scores.argmax()] == "middling", "many questions at once keep it too"
    tight = known.choose(STRANGE[-1], alpha=1.0, budget=alone["weak"] / 2)
    assert tight.model == "weak", "where none keeps the budget, the cheapest answers"
    assert scope("strong").choose(STRANGE[-1], budget=budget).model == "strong"
    router = ScopeRouter(known, tuple(worlds.ABILITY), budget=budget)
    decision = router.decide(Trace(Problem("p", STRANGE[-1])))
    assert decision.model == "middling" and "unlike the anchors, within the budget" in decision.reason


def test_few_anchors_call_nothing_outside() -> None:
    few = AnchorSet(anchors().problems[:20])
    store = worlds.store(few)
    store.add(*(replace(taken, anchors=few.digest) for taken in store))
    assert not Scope(anchors=few, fingerprints=store).choose(STRANGE[0]).outside


def test_an_interval_covers_the_chance_that_made_the_outcomes() -> None:
    random = np.random.default_rng(0)
    chances = random.uniform(0.1, 0.9, (40, 300))
    outcomes = (random.random(chances.shape) < chances).astype(float)
    low, high = Reliability(chances, outcomes).interval(np.full((40, 1), 0.5), np.arange(40))
    assert ((low <= 0.5) & (high >= 0.5)).all()
    assert 0.15 < np.mean(high - low) < 0.3
    biased = np.clip(chances + 0.3, 0.0, 1.0)
    low, _ = Reliability(biased, outcomes).interval(np.full((40, 1), 0.8), np.arange(40))
    assert np.mean(low <= 0.5) > 0.85
