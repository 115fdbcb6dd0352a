"""The estimators against worlds in which it is known which of them should win."""

from __future__ import annotations

import numpy as np
import pytest

from stepwise.scope import AnchorSet, Fingerprint, FingerprintStore, Problem, Scope
from stepwise.scope.estimators import Combination, ModelRidge, Neighbours, PooledDifficulty
from stepwise.scope.estimators.base import logit
from stepwise.scope.estimators.combination import held_out_loss
from stepwise.scope.estimators.regression import Regression, Spectrum
from tests.stepwise.scope import worlds

TOPICS = {"herbs": "Which herb goes with {}?", "stars": "How far from the star {} is its planet?"}


def specialists(count: int, skip: int = 0) -> tuple[AnchorSet, FingerprintStore]:
    """Two models, each right on one topic and wrong on the other; lengths differ by topic too."""
    problems = [
        Problem(f"{topic}-{i}", text.format(f"number {i + skip}"), "")
        for i in range(count // 2)
        for topic, text in TOPICS.items()
    ]
    anchors, store = AnchorSet(problems), FingerprintStore(":memory:")
    for own in TOPICS:
        right = [float(problem.id.startswith(own)) for problem in anchors]
        store.add(
            Fingerprint(
                model=own,
                anchor_ids=[problem.id for problem in anchors],
                correct=right,
                tokens=[100 if good else 300 for good in right],
                anchors=anchors.digest,
            )
        )
    return anchors, store


def test_a_ridge_per_model_knows_specialists_where_one_scale_of_difficulty_cannot() -> None:
    anchors, store = specialists(60)
    scope = Scope(anchors=anchors, fingerprints=store)
    compared = scope.compare([TOPICS["herbs"].format("number 99")])
    by_ridge, by_scale = (
        made.fit(scope.known).predict(compared, np.arange(2)) for made in (ModelRidge(), PooledDifficulty())
    )
    assert by_ridge.value[0, 0] > 0.8 and by_ridge.value[1, 0] < 0.2
    assert by_ridge.tokens[0, 0] < 150 < 250 < by_ridge.tokens[1, 0]
    assert abs(by_scale.value[0, 0] - by_scale.value[1, 0]) < 0.2


def test_the_combination_takes_what_predicts_left_out_anchors_and_says_so() -> None:
    scope = Scope(anchors=specialists(60)[0], fingerprints=specialists(60)[1])
    best, *rest = scope.candidates
    assert "ridge" in best.members and best.loss <= min(other.loss for other in rest)
    assert sum(candidate.share for candidate in scope.candidates) == pytest.approx(1.0)
    alone = next(candidate for candidate in rest if candidate.members == ("difficulty",))
    assert alone.share < 0.01 and alone.loss > best.loss + 0.1


def test_a_ridge_leaves_anchors_out_that_a_model_has_not_answered() -> None:
    anchors, store = specialists(60)
    whole = store.get("herbs")
    kept = [i for i, name in enumerate(whole.anchor_ids) if i % 3]
    store.add(
        Fingerprint(
            model="herbs",
            anchor_ids=[whole.anchor_ids[i] for i in kept],
            correct=[whole.correct[i] for i in kept],
            tokens=[whole.tokens[i] for i in kept],
            anchors=anchors.digest,
        )
    )
    estimator = ModelRidge()
    known = Scope(anchors=anchors, fingerprints=store, estimator=estimator).known
    held = estimator.held_out()
    assert held.value.shape == known.value.shape and np.isfinite(held.value).all()
    unseen = ~known.seen[known.models.index("herbs")]
    right = np.array([problem.id.startswith("herbs") for problem in anchors])
    assert ((held.value[known.models.index("herbs")] > 0.5) == right)[unseen].all()


def test_held_out_predictions_are_what_a_fit_without_the_anchor_says() -> None:
    random = np.random.default_rng(0)
    x, y = random.standard_normal((20, 3)), random.standard_normal(20)
    gram = x @ x.T
    fitted = Regression(Spectrum(gram), y)
    noise = fitted.noise
    centred = y - y.mean()
    for out in (0, 7):
        rest = np.arange(20) != out
        weights = np.linalg.solve(gram[np.ix_(rest, rest)] + noise * np.eye(19), centred[rest])
        expected = np.clip(gram[out, rest] @ weights + y.mean(), y.min(), y.max())
        assert fitted.held_out[out] == pytest.approx(expected)


def test_the_number_of_neighbours_is_the_one_with_the_least_leave_one_out_error() -> None:
    anchors = AnchorSet(worlds.problems(120))
    errors = {}
    for k in (1, 5, 30):
        estimator = Neighbours(k)
        known = Scope(anchors=anchors, fingerprints=worlds.store(anchors), estimator=estimator).known
        errors[k] = float(np.nanmean((known.value - estimator.held_out().value) ** 2))
    chosen = Neighbours((1, 5, 30))
    _ = Scope(anchors=anchors, fingerprints=worlds.store(anchors), estimator=chosen).known
    assert chosen.taken == min(errors, key=lambda k: errors[k])


def test_the_held_out_loss_tells_what_is_known_from_what_is_not() -> None:
    random = np.random.default_rng(0)
    value = (random.random((3, 200)) < 0.5).astype(float)
    knowing = logit(np.where(value == 1, 0.9, 0.1))[..., None]
    guessing = random.standard_normal((3, 200, 1))
    assert held_out_loss(knowing, value) < 0.2
    assert held_out_loss(guessing, value) == pytest.approx(np.log(2), abs=0.02)


def test_one_anchor_is_enough_for_a_combination() -> None:
    anchors = AnchorSet(worlds.problems(1))
    scope = Scope(anchors=anchors, fingerprints=worlds.store(anchors), estimator=Combination())
    assert 0 < scope.estimate("What is 10 plus 11?", ["strong"])[0].p_correct < 1
