"""What the fingerprints of a store say about a set of anchors, as arrays."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sparse
from numpy.typing import NDArray

from stepwise.engine.cost import Price
from stepwise.errors import ConfigError
from stepwise.scope.anchors import AnchorSet
from stepwise.scope.features import Encoded
from stepwise.scope.fingerprint import Fingerprint

Array = NDArray[np.float64]
PROMPT_TOKENS_PER_CHARACTER = 0.25
"""Where a fingerprint has no measured prompt tokens."""


@dataclass(frozen=True)
class Compared:
    """q questions against the n anchors.

    Attributes:
        questions: the texts.
        similarity: cosine of the embeddings, [q, n].
        kernel: ``similarity`` plus the products of the standardised numbers, [q, n].
    """

    questions: tuple[str, ...]
    similarity: Array
    kernel: Array


@dataclass(frozen=True)
class Known:
    """What is known of m models on n anchors.

    Attributes:
        models: names.
        anchors: the questions, encoded.
        value: the objective in [0, 1], [m, n]; nan where a model has not answered.
        tokens: generated tokens, [m, n]; nan likewise.
        prices: per model, None where unknown.
        prompt_rate: prompt tokens per character of a question, [m].
    """

    models: tuple[str, ...]
    anchors: Encoded
    value: Array
    tokens: Array
    prices: tuple[Price | None, ...]
    prompt_rate: Array

    @cached_property
    def seen(self) -> NDArray[np.bool_]:
        return ~np.isnan(self.value)

    def compare(self, encoded: Encoded) -> Compared:
        similarity = np.asarray((encoded.vectors @ self._anchors_by_word).toarray(), dtype=np.float64)
        return Compared(encoded.questions, similarity, similarity + encoded.dense @ self.anchors.dense.T)

    @cached_property
    def among(self) -> Compared:
        """The anchors against themselves."""
        return self.compare(self.anchors)

    @cached_property
    def _anchors_by_word(self) -> sparse.csr_array:
        return sparse.csr_array(
            self.anchors.vectors.T
        )  # transposed once: the product of every question needs it

    def cost(self, tokens: Array, questions: Iterable[str], rows: NDArray[np.intp]) -> Array:
        """Price of answers, shaped as ``tokens`` [len(rows), questions]; nan for a model without a price."""
        characters = np.array([len(question) for question in questions], dtype=np.float64)
        input_price, output_price = (
            np.array([np.nan if self.prices[i] is None else getattr(self.prices[i], part) for i in rows])
            for part in ("input", "output")
        )
        prompt = self.prompt_rate[rows, None] * characters
        return np.asarray((prompt * input_price[:, None] + tokens * output_price[:, None]) * 1e-6)


def gather(
    anchors: AnchorSet, encoded: Encoded, fingerprints: Iterable[Fingerprint], objective: str, coverage: float
) -> Known:
    """Line fingerprints up with the anchors.

    Args:
        objective: "correct" or a name in every fingerprint's ``scores``.
        coverage: the least share of the anchors that a fingerprint must cover.

    Raises:
        ConfigError: if a fingerprint covers too few anchors, or was taken on others.
    """
    listed = list(fingerprints)
    value, tokens = (np.full((len(listed), len(anchors)), np.nan) for _ in range(2))
    rate = np.full(len(listed), PROMPT_TOKENS_PER_CHARACTER)
    for row, fingerprint in enumerate(listed):
        _check(anchors, fingerprint, coverage)
        at = [anchors.place[name] for name in fingerprint.anchor_ids]
        value[row, at], tokens[row, at] = fingerprint.objective(objective), fingerprint.tokens
        if fingerprint.prompt_tokens is not None:
            rate[row] = sum(fingerprint.prompt_tokens) / sum(len(anchors.problems[i].question) for i in at)
    names, prices = (
        tuple(fingerprint.model for fingerprint in listed),
        tuple(fingerprint.price for fingerprint in listed),
    )
    return Known(names, encoded, value, tokens, prices, rate)


def _check(anchors: AnchorSet, fingerprint: Fingerprint, coverage: float) -> None:
    strange = [name for name in fingerprint.anchor_ids if name not in anchors.place]
    if strange or (fingerprint.anchors and fingerprint.anchors != anchors.digest):
        what = (
            f"anchor {strange[0]!r} is not among them"
            if strange
            else f"digest {fingerprint.anchors}, now {anchors.digest}"
        )
        raise ConfigError(
            f"fingerprint of {fingerprint.model!r} was taken on other anchors ({what}); run "
            "`python -m scripts.fingerprint` on these."
        )
    share = len(fingerprint.anchor_ids) / len(anchors)
    if share < coverage:
        raise ConfigError(
            f"fingerprint of {fingerprint.model!r} covers {len(fingerprint.anchor_ids)} of {len(anchors)} "
            f"anchors, and needs {coverage:.0%}; run `python -m scripts.fingerprint` to complete it."
        )
