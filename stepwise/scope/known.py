"""What the fingerprints of a store say about a set of anchors, as arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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
        cached_share: of the prompt tokens, what the server's cache holds, [m].
        quarantined: why a fingerprint is left out, by model.
    """

    models: tuple[str, ...]
    anchors: Encoded
    value: Array
    tokens: Array
    prices: tuple[Price | None, ...]
    prompt_rate: Array
    cached_share: Array
    quarantined: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def seen(self) -> NDArray[np.bool_]:
        return ~np.isnan(self.value)

    @cached_property
    def mean(self) -> Array:
        """Of each model's value over the anchors that it has answered, [m]."""
        return np.asarray(np.nanmean(self.value, axis=1))

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
        input_price, output_price = np.array([self._prices_of(int(row)) for row in rows]).T
        prompt = self.prompt_rate[rows, None] * characters
        return np.asarray((prompt * input_price[:, None] + tokens * output_price[:, None]) * 1e-6)

    def spent(self, rows: NDArray[np.intp]) -> Array:
        """What models cost on the anchors, [len(rows), n]; nan where one has not answered."""
        return self.cost(self.tokens[rows], self.anchors.questions, rows)

    def _prices_of(self, row: int) -> tuple[float, float]:
        """Of a model's prompt, as far as it is cached at the cached price, and of its output."""
        price = self.prices[row]
        if price is None:
            return np.nan, np.nan
        cached = price.input if price.cached_input is None else price.cached_input
        share = float(self.cached_share[row])
        return (1 - share) * price.input + share * cached, price.output


def gather(
    anchors: AnchorSet, encoded: Encoded, fingerprints: Iterable[Fingerprint], objective: str, coverage: float
) -> Known:
    """Line fingerprints up with the anchors; those that do not fit are left out and named.

    Args:
        fingerprints: one a model.
        objective: "correct" or a name in the fingerprints' ``scores``.
        coverage: the least share of the anchors that a fingerprint must cover.

    Raises:
        ConfigError: if none is left.
    """
    listed = list(fingerprints)
    reasons = {taken.model: _misfit(anchors, taken, objective, coverage) for taken in listed}
    quarantined = {model: reason for model, reason in reasons.items() if reason}
    usable = [taken for taken in listed if taken.model not in quarantined]
    if not usable:
        raise ConfigError(next(iter(quarantined.values()), "fingerprints: the store is empty."))
    value, tokens = (np.full((len(usable), len(anchors)), np.nan) for _ in range(2))
    rate = np.full(len(usable), PROMPT_TOKENS_PER_CHARACTER)
    share = np.zeros(len(usable))
    for row, taken in enumerate(usable):
        at = [anchors.place[name] for name in taken.anchor_ids]
        value[row, at], tokens[row, at] = taken.objective(objective), taken.tokens
        if taken.prompt_tokens is not None:
            rate[row] = sum(taken.prompt_tokens) / sum(len(anchors.problems[i].question) for i in at)
        if taken.cached_tokens is not None:
            share[row] = sum(taken.cached_tokens) / max(sum(taken.prompt_tokens or ()), 1.0)
    names, prices = tuple(taken.model for taken in usable), tuple(taken.price for taken in usable)
    return Known(names, encoded, value, tokens, prices, rate, share, quarantined)


def _misfit(anchors: AnchorSet, taken: Fingerprint, objective: str, coverage: float) -> str:
    """Why a fingerprint cannot be used; "" if it can."""
    strange = [name for name in taken.anchor_ids if name not in anchors.place]
    if strange or (taken.anchors and taken.anchors != anchors.digest):
        what = (
            f"anchor {strange[0]!r} is not among them"
            if strange
            else f"digest {taken.anchors}, now {anchors.digest}"
        )
        return (
            f"fingerprint of {taken.model!r} was taken on other anchors ({what}); run "
            "`stepwise fingerprint run` on these."
        )
    share = len(taken.anchor_ids) / len(anchors)
    if share < coverage:
        return (
            f"fingerprint of {taken.model!r} covers {len(taken.anchor_ids)} of {len(anchors)} "
            f"anchors, and needs {coverage:.0%}; run `stepwise fingerprint run` to complete it."
        )
    try:
        taken.objective(objective)
    except ConfigError as error:
        return str(error)
    return ""
