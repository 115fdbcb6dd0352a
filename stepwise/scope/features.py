"""What can be read off a question before anybody answers it.

Three blocks: the embedding; counts (length, numbers, symbols); and, where other labelled questions are at
hand (levels, lengths of solutions, pass rates of models that are not in the pool), what a ridge regression on
the embedding learned from them. Questions that are anchors are never among those.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sparse
from numpy.typing import NDArray

from stepwise.errors import ConfigError
from stepwise.scope.embed import Embedder
from stepwise.types import normalised

Array = NDArray[np.float64]
STATISTICS_WEIGHT = 0.3
"""Of the counts in the kernel, against 1 for the embedding and 1 for the auxiliary predictions."""
COUNTED = tuple(
    re.compile(pattern)
    for pattern in (
        r"\S+", r"\d+", r"\d", r"\\[a-zA-Z]+", r"[$]", r"[=<>]|\\[lg]eq?\b", r"[-+*/^]",
        r"[.?!](?:\s|$)", r",",
        r"\b(?:each|every|per|times|twice|half|third|percent)\b|%",
        r"\b(?:more|less|fewer|than|as many|remaining|left|rest|total|altogether)\b",
        r"\b(?:if|when|then|suppose|such that|for all|exactly|at least|at most)\b",
        r"\b(?:integers?|primes?|digits?|divis\w+|remainder|probability|ways|triangle|circle|angle|polynomial)\b",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Auxiliary:
    """Labelled questions from elsewhere.

    Attributes:
        questions: n texts.
        values: [n, k]: anything that has to do with difficulty or length.
    """

    questions: Sequence[str]
    values: Array

    def __post_init__(self) -> None:
        values = np.asarray(self.values, dtype=np.float64)
        if values.ndim != 2 or len(values) != len(self.questions) or not np.isfinite(values).all():
            raise ConfigError(
                f"auxiliary values must be finite numbers [{len(self.questions)} questions, k], "
                f"not {values.shape}."
            )
        object.__setattr__(self, "values", values)

    def without(self, questions: Sequence[str]) -> Auxiliary:
        """The same without questions that are in a list, by normalised text."""
        unwanted = {normalised(question) for question in questions}
        keep = [i for i, question in enumerate(self.questions) if normalised(question) not in unwanted]
        return Auxiliary([self.questions[i] for i in keep], self.values[keep])


@dataclass(frozen=True)
class Encoded:
    """n questions as numbers: ``vectors`` [n, d] of length 1, ``dense`` [n, k] standardised on the
    anchors."""

    questions: tuple[str, ...]
    vectors: sparse.csr_array
    dense: Array


@dataclass
class Features:
    """Encodes questions, once fitted on the anchors."""

    embedder: Embedder
    auxiliary: Sequence[Auxiliary] = ()
    _readers: list[Any] = field(default_factory=list, init=False, repr=False)
    _centre: Array | float = field(default=0.0, init=False, repr=False)
    _scale: Array | float = field(default=1.0, init=False, repr=False)

    def fit(self, anchors: Sequence[str]) -> Encoded:
        """Learn from the anchors and the auxiliary questions; returns the encoded anchors."""
        others = [aux.without(anchors) for aux in self.auxiliary]
        self.embedder.fit([*anchors, *(q for aux in others for q in aux.questions)])
        self._readers = [
            _ridge(self.embedder.embed(aux.questions), aux.values) for aux in others if aux.questions
        ]
        self._centre, self._scale = 0.0, 1.0
        dense = self.encode(anchors).dense
        self._centre = dense.mean(axis=0)
        counts = len(COUNTED) + 1
        spread = dense.std(axis=0) + 1e-9
        weight = np.full(dense.shape[1], np.sqrt(STATISTICS_WEIGHT / counts))
        weight[counts:] = np.sqrt(1.0 / max(1, dense.shape[1] - counts))
        self._scale = np.where(dense.std(axis=0) == 0, 0.0, weight / spread)
        return self.encode(anchors)

    def encode(self, questions: Sequence[str]) -> Encoded:
        vectors = self.embedder.embed(questions)
        blocks = [statistics(questions), *(np.asarray(reader.predict(vectors)) for reader in self._readers)]
        dense = np.column_stack([block.reshape(len(questions), -1) for block in blocks])
        return Encoded(tuple(questions), vectors, (dense - self._centre) * self._scale)


def statistics(questions: Sequence[str]) -> Array:
    """ln(1 + count) of characters and of everything in `COUNTED`, [n, 14]."""
    rows = [[len(text), *(len(pattern.findall(text)) for pattern in COUNTED)] for text in questions]
    return np.log1p(np.array(rows, dtype=np.float64))


def _ridge(vectors: sparse.csr_array, values: Array) -> Any:
    from sklearn.linear_model import Ridge

    return Ridge(alpha=1.0).fit(sparse.csr_matrix(vectors), values)
