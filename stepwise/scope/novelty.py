"""How far a question is from all anchors: where it is too far, they say nothing about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import scipy.sparse as sparse
from numpy.typing import NDArray

from stepwise.extras import require
from stepwise.scope.embed import WORDS
from stepwise.scope.estimators.base import FLOOR, Beliefs

Array = NDArray[np.float64]
NEAREST = 5
"""Anchors whose mean similarity counts."""
FOLDS = 10
OUTSIDE = 0.02
"""Share of the questions of the anchors' own kind that are taken for outside ones."""
LEAST = round(1 / OUTSIDE)
"""Anchors without which no question can be called outside."""
INSIDE = 0.05
"""From this rank on a question is trusted wholly."""
BUCKETS = 2**18


class Novelty:
    """Conformal p-values of "this question is of the anchors' kind".

    The distance of a question is 1 less its mean similarity to the nearest anchors, by words and pieces of
    words. Unlike the tf-idf of `stepwise.scope.embed`, words that no anchor has count against the similarity.
    Anchors in ten parts, each measured against the others, say what distances are usual. The p-value of a
    question is the share of the anchors that are at least as far (with the question itself counted), so that
    a question of their kind has one below u with probability of about u.

    Args:
        anchors: the questions.

    Attributes:
        held_out: p-values of the anchors themselves, [n].
    """

    def __init__(self, anchors: Sequence[str]) -> None:
        require("SCOPE", "scope", "sklearn")
        from sklearn.feature_extraction.text import HashingVectorizer

        counted: dict[str, Any] = {"n_features": BUCKETS, "alternate_sign": False, "norm": None}
        self._counters = (
            HashingVectorizer(**counted, ngram_range=(1, 2), token_pattern=WORDS),
            HashingVectorizer(**counted, ngram_range=(2, 5), analyzer="char_wb"),
        )
        counts = self._count(anchors)
        fold = np.arange(len(anchors)) % FOLDS
        distances = np.ones(len(anchors))
        for part in range(min(FOLDS, len(anchors)) if len(anchors) > 1 else 0):
            rest = [own[fold != part] for own in counts]
            distances[fold == part] = _Space(rest).distances([own[fold == part] for own in counts])
        self._usual = np.sort(distances)
        self._space = _Space(counts)
        self.held_out = self._rank(distances, of_itself=True)

    def __call__(self, questions: Sequence[str]) -> Array:
        """P-values of new questions, [q]."""
        return self._rank(self._space.distances(self._count(questions)))

    def _count(self, questions: Sequence[str]) -> list[sparse.csr_matrix]:
        return [counter.transform(questions) for counter in self._counters]

    def _rank(self, distances: Array, *, of_itself: bool = False) -> Array:
        n = len(self._usual)
        farther = n - np.searchsorted(self._usual, distances - 1e-12)
        return np.asarray(farther / n if of_itself else (1 + farther) / (n + 1))


class _Space:
    """Tf-idf of counts by bucket; a bucket that no anchor fills has the largest weight."""

    def __init__(self, counts: Sequence[sparse.csr_matrix]) -> None:
        from sklearn.feature_extraction.text import TfidfTransformer

        self._weights = [TfidfTransformer(sublinear_tf=True).fit(own) for own in counts]
        self._anchors = [
            weigh.transform(own).T.tocsr() for weigh, own in zip(self._weights, counts, strict=True)
        ]

    def distances(self, counts: Sequence[sparse.csr_matrix]) -> Array:
        parts = zip(self._weights, counts, self._anchors, strict=True)
        similarity = sum((weigh.transform(own) @ anchors).toarray() for weigh, own, anchors in parts)
        nearest = np.sort(similarity / len(self._weights), axis=1)[:, -NEAREST:]
        return np.asarray(1 - nearest.mean(axis=1))


def trust(p_values: Array) -> Array:
    """How far estimates are believed: 0 outside what the anchors cover, 1 well inside, linear between."""
    return np.asarray(np.clip((p_values - OUTSIDE) / (INSIDE - OUTSIDE), 0.0, 1.0))


def shrink(beliefs: Beliefs, mean: Array, p_values: Array) -> Beliefs:
    """Values shrunk toward the models' means [m] by what `trust` leaves of each question [q]."""
    share = trust(p_values)
    return replace(
        beliefs, value=np.clip(share * beliefs.value + (1 - share) * mean[:, None], FLOOR, 1 - FLOOR)
    )
