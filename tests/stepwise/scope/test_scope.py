"""The surface: estimates that are right about a world whose truth is known, and choices that pay."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stepwise.errors import ConfigError, InfeasibleTarget
from stepwise.scope import AnchorSet, Fingerprint, FingerprintStore, Price, Problem, Scope
from stepwise.scope.estimators import Combination, ModelMean, Neighbours, PooledDifficulty
from tests.stepwise.scope import worlds


@cache
def anchors() -> AnchorSet:
    return AnchorSet(worlds.problems(250))


@cache
def scope() -> Scope:
    return Scope(anchors=anchors(), fingerprints=worlds.store(anchors()))


def test_the_surface_as_it_is_documented() -> None:
    store = FingerprintStore(":memory:")
    pair = [Problem("a", "What is 2 + 2?", "4"), Problem("b", "How many primes are below 100?", "25")]
    for name, right in (("m", [1, 0]), ("n", [1, 1])):
        price = Price(input=0.1, output=0.4)
        store.add(
            Fingerprint(model=name, anchor_ids=["a", "b"], correct=right, tokens=[212, 97], price=price)
        )
    small = Scope(anchors=AnchorSet(pair), fingerprints=store, embedder="tfidf")
    found = small.estimate("What is 3 + 3?", models=["n", "m"])
    assert [one.model for one in found] == ["n", "m"]
    assert all(0 < one.p_correct < 1 and 90 < one.tokens < 220 and one.cost for one in found)
    assert found[0].p_correct > found[1].p_correct
    choice = small.choose("What is 3 + 3?", models=["m", "n"], alpha=0.7)
    assert choice.model in ("m", "n") and [one.model for one in choice.estimates] == ["m", "n"]


def test_estimates_follow_the_truth_on_new_questions() -> None:
    """Better than the model's mean, in probability and in length, and calibrated."""
    fresh = worlds.problems(300, seed=1)
    questions = [problem.question for problem in fresh]
    truth = np.array([[worlds.chance(model, problem) for problem in fresh] for model in worlds.ABILITY])
    length = np.array([10 * (2 + question.count("plus")) for question in questions])
    mean = Scope(anchors=anchors(), fingerprints=worlds.store(anchors()), estimator=ModelMean())
    errors = {}
    for name, one in (("mean", mean), ("combined", scope())):
        found = one.beliefs(questions, list(worlds.ABILITY))
        inside = (found.low <= length) & (length <= found.high)
        errors[name] = np.abs(found.value - truth).mean(), np.abs(found.tokens - length).mean(), inside.mean()
    assert errors["combined"][0] < 0.5 * errors["mean"][0]
    assert errors["combined"][1] < 0.3 * errors["mean"][1]
    assert errors["combined"][2] > 0.8
    assert abs(scope().beliefs(questions, list(worlds.ABILITY)).value.mean() - truth.mean()) < 0.04


def test_a_new_model_joins_by_its_fingerprint_alone() -> None:
    store = worlds.store(anchors(), ("weak", "strong"))
    known = Scope(anchors=anchors(), fingerprints=store)
    question = anchors().problems[0].question
    with pytest.raises(ConfigError, match="model 'middling' has no fingerprint"):
        known.estimate(question, ["middling"])
    store.add(worlds.fingerprint("middling", anchors()))
    weak, middling, strong = known.estimate(question, ["weak", "middling", "strong"])
    assert weak.p_correct < middling.p_correct < strong.p_correct


def test_alpha_trades_cost_for_correctness() -> None:
    settings = scope().settings()
    assert settings[0].cost < 0.2 * settings[-1].cost
    assert settings[-1].value > settings[0].value + 0.3
    cheap = scope().choose(worlds.problems(1, seed=5)[0].question, alpha=0.0)
    assert cheap.model == min(cheap.estimates, key=lambda one: one.cost or 0.0).model


def test_the_frontier_has_no_gap_where_the_anchors_have_a_say() -> None:
    """The failure signature of the paper at w = 0: whole ranges of cost that no alpha reaches."""
    costs = sorted({setting.cost for setting in scope().settings()})
    widest = max(np.diff(costs)) / (costs[-1] - costs[0])
    assert widest < 0.15


def test_a_budget_chooses_alpha_on_the_anchors() -> None:
    settings = scope().settings()
    budget = float(np.median([one.cost for one in settings]))
    chosen = scope().alpha_for(budget)
    assert chosen.cost < budget
    assert chosen.value > settings[0].value
    assert scope().alpha_for(budget, delta=0.5).value >= chosen.value
    with pytest.raises(InfeasibleTarget) as caught:
        scope().alpha_for(1e-12)
    assert scope().alpha_for(caught.value.best).cost < caught.value.best
    for budget, delta, message in ((0.0, 0.1, "budget must be"), (1.0, 1.0, "delta must lie in")):
        with pytest.raises(ConfigError, match=message):
            scope().alpha_for(budget, delta=delta)


def test_a_budget_alone_chooses_its_own_alpha() -> None:
    question = worlds.problems(1, seed=5)[0].question
    budget = float(np.median([setting.cost for setting in scope().settings()]))
    alpha = scope().alpha_for(budget).alpha
    assert scope().choose(question, budget=budget) == scope().choose(question, alpha=alpha, budget=budget)
    assert scope().choose(question, alpha=0.0) != scope().choose(question, budget=budget)
    with pytest.raises(InfeasibleTarget):
        scope().choose(question, budget=1e-12)


def test_a_folder_is_opened_by_its_name(tmp_path: Path) -> None:
    anchors().save(tmp_path / "anchors.json")
    with pytest.raises(ConfigError, match="fingerprints: .* does not exist"):
        Scope.open(tmp_path)
    FingerprintStore(tmp_path / "fingerprints.db").add(*worlds.store(anchors()))
    question = worlds.problems(1, seed=5)[0].question
    assert Scope.open(tmp_path).choose(question) == scope().choose(question)
    assert Scope.open(tmp_path, outside="weak").choose("Wie heißt sie?").model == "weak"
    with pytest.raises(ConfigError, match="has no anchors.json: run `stepwise scope import FILE --folder"):
        Scope.open(tmp_path / "typo")


def test_any_score_can_take_the_place_of_correctness() -> None:
    """Safety falls with length here, whatever the model."""
    store = FingerprintStore(":memory:")
    for model in worlds.ABILITY:
        safe = [0.9 if problem.question.count("plus") < 7 else 0.1 for problem in anchors()]
        store.add(replace(worlds.fingerprint(model, anchors()), scores={"safety": safe}))
    known = Scope(anchors=anchors(), fingerprints=store, objective="safety")
    short, long = "What is 11 plus 12?", "What is " + " plus ".join(["17"] * 13) + "?"
    assert known.estimate(short, ["weak"])[0].p_correct > 0.7
    assert known.estimate(long, ["strong"])[0].p_correct < 0.3
    with pytest.raises(ConfigError, match="objective 'style' is unknown"):
        _ = Scope(anchors=anchors(), fingerprints=store, objective="style").known


@pytest.mark.parametrize("estimator", [ModelMean, Neighbours, PooledDifficulty, Combination])
def test_every_estimator_lives_with_holes_and_extremes(estimator: type) -> None:
    """Anchors that a model has not answered are left out, not counted as wrong."""
    store = worlds.store(anchors(), ("weak", "strong"))
    whole = worlds.fingerprint("strong", anchors())
    half = list(range(0, 250, 2))
    store.add(
        Fingerprint(
            model="holes",
            anchor_ids=[whole.anchor_ids[i] for i in half],
            price=whole.price,
            correct=[whole.correct[i] for i in half],
            tokens=[whole.tokens[i] for i in half],
        )
    )
    store.add(replace(whole, model="perfect", correct=[1.0] * 250))
    known = Scope(anchors=anchors(), fingerprints=store, estimator=estimator())
    for question in (worlds.problems(1, seed=9)[0].question, "??? ∑ unseen", "x" * 5000):
        found = {one.model: one for one in known.estimate(question)}
        assert all(
            np.isfinite([o.p_correct, o.tokens, o.cost or 0.0, *o.interval]).all() for o in found.values()
        )
        assert found["perfect"].p_correct > 0.9
        assert abs(found["holes"].p_correct - found["strong"].p_correct) < 0.2
        assert all(one.interval[0] <= one.interval[1] for one in found.values())


def test_held_out_predictions_do_not_know_the_outcome() -> None:
    """Pure noise: what is predicted for an anchor must not go along with what happened there."""
    random = np.random.default_rng(0)
    store = FingerprintStore(":memory:")
    for i in range(8):
        ids = [problem.id for problem in anchors()]
        store.add(
            Fingerprint(
                model=f"m{i}", anchor_ids=ids, correct=random.integers(0, 2, 250).tolist(), tokens=[9.0] * 250
            )
        )
    for estimator in (Neighbours(), PooledDifficulty(), Combination()):
        known = Scope(anchors=anchors(), fingerprints=store, estimator=estimator).known
        held = estimator.held_out().value
        along = np.corrcoef(held.ravel(), known.value.ravel())[0, 1]
        assert abs(np.nan_to_num(along)) < 0.1


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"anchor_ids": ["0-0", "0-1"], "correct": [1, 1], "tokens": [1, 1]},
            "covers 2 of 250 anchors, and needs 50%",
        ),
        ({"anchors": "0123"}, "was taken on other anchors"),
        ({"price": None}, "model 'weak' has no price"),
    ],
)
def test_a_fingerprint_that_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    store = worlds.store(anchors(), ("strong",))
    store.add(replace(worlds.fingerprint("weak", anchors()), **change))
    with pytest.raises(ConfigError, match=message):
        Scope(anchors=anchors(), fingerprints=store).choose("What is 1 plus 1?", ["weak", "strong"])


def test_a_fingerprint_that_does_not_fit_stops_nobody_else() -> None:
    store = worlds.store(anchors(), ("strong", "middling"))
    few = ["0-0", "0-1"]
    store.add(Fingerprint(model="weak", anchor_ids=few, correct=[1, 1], tokens=[1, 1]))
    known = Scope(anchors=anchors(), fingerprints=store)
    assert [estimate.model for estimate in known.estimate("What is 11 plus 12?")] == ["middling", "strong"]
    assert list(known.known.quarantined) == ["weak"]
    store.remove("middling")
    store.remove("strong")
    with pytest.raises(ConfigError, match="'weak' covers 2 of 250 anchors"):
        known.estimate("What is 11 plus 12?")


def test_a_model_without_a_price_has_estimates_without_a_cost() -> None:
    store = FingerprintStore(":memory:")
    store.add(replace(worlds.fingerprint("weak", anchors()), price=None))
    assert Scope(anchors=anchors(), fingerprints=store).estimate("What is 1 plus 1?")[0].cost is None


def test_a_price_comes_from_one_place() -> None:
    store = FingerprintStore(":memory:")
    store.add(replace(worlds.fingerprint("weak", anchors()), price=None))
    given = Scope(anchors=anchors(), fingerprints=store, prices={"weak": Price(1.0, 2.0)})
    assert given.estimate("What is 11 plus 12?")[0].cost
    store.add(worlds.fingerprint("weak", anchors()))
    with pytest.raises(ConfigError, match="'weak': its fingerprint says 0.025 / 0.1 and the pair 1 / 2"):
        given.estimate("What is 11 plus 12?")


def test_bad_calls_name_what_is_wrong() -> None:
    for call, message in (
        (lambda: scope().estimate(" "), "question must not be empty"),
        (lambda: scope().estimate("q", []), "models must be distinct names"),
        (lambda: scope().estimate("q", ["weak", "weak"]), "models must be distinct names"),
        (lambda: scope().choose("q", alpha=1.5), "alpha must lie in"),
        (
            lambda: Scope(anchors=anchors(), fingerprints=FingerprintStore(":memory:")).known,
            "the store is empty",
        ),
        (
            lambda: Scope(anchors=anchors(), fingerprints=worlds.store(anchors()), coverage=0),
            "coverage must lie",
        ),
        (
            lambda: Scope(anchors=anchors(), fingerprints=worlds.store(anchors()), embedder="/no/such"),
            "cannot be loaded",
        ),
        (
            lambda: Scope(anchors=anchors(), fingerprints=worlds.store(anchors()), embedder=[]),
            "at least one embedder",
        ),
    ):
        with pytest.raises(ConfigError, match=message):
            call()


def test_an_estimate_is_quick_for_a_pool_of_seven() -> None:
    """Typically 1.5 ms; the bound is wide, for busy machines."""
    store = FingerprintStore(":memory:")
    for i in range(7):
        store.add(replace(worlds.fingerprint("weak", anchors(), seed=i), model=f"m{i}"))
    known = Scope(anchors=anchors(), fingerprints=store)
    questions = [problem.question for problem in worlds.problems(40, seed=3)]
    known.estimate(questions[0])
    took = []
    for question in questions:
        began = time.perf_counter()
        known.estimate(question)
        took.append(time.perf_counter() - began)
    print(f"an estimate for a pool of 7: median {1000 * statistics.median(took):.2f} ms")
    assert statistics.median(took) < 0.05


def test_cached_prompt_tokens_cost_what_cached_input_does() -> None:
    some = anchors()
    taken = worlds.fingerprint("strong", some)
    prompts = [100.0] * len(some)
    price = Price(input=10.0, output=0.0, cached_input=1.0)
    costs = {}
    for cached in (None, 80.0):
        store = FingerprintStore(":memory:")
        held = None if cached is None else [cached] * len(some)
        store.add(replace(taken, price=price, prompt_tokens=prompts, cached_tokens=held))
        costs[cached] = Scope(anchors=some, fingerprints=store).estimate(some.questions[0])[0].cost
    whole, mostly_cached = costs[None], costs[80.0]
    assert whole and mostly_cached == pytest.approx(whole * (0.2 * 10 + 0.8 * 1) / 10)
    with pytest.raises(ConfigError, match="cached_tokens are a part of prompt_tokens"):
        replace(taken, prompt_tokens=prompts, cached_tokens=[101.0] * len(some))
