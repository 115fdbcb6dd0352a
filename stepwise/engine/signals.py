"""Signals: what a model's own token probabilities say about a step that it wrote."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stepwise.types import Signals

TOP = 20
"""Alternatives per token that a backend looks at (GlimpRouter's top 20)."""


def measure(chosen: Sequence[float], top: Sequence[Sequence[float]]) -> Signals:
    """Signals of a completion.

    Args:
        chosen: log-probability of each generated token, length n.
        top: for each token the largest log-probabilities, in falling order: at least 2 of them
            for every token and up to `TOP` for the first.
    """
    if not chosen:
        return Signals()
    return Signals(
        mean_logprob=sum(chosen) / len(chosen),
        min_logprob=min(chosen),
        first_entropy=entropy(top[0]),
        margin=min(math.exp(row[0]) - math.exp(row[1]) for row in top),
        length=len(chosen),
    )


def entropy(logprobs: Sequence[float]) -> float:
    """Entropy in nats of the renormalised top `TOP` (arXiv 2601.05110, section 3)."""
    weights = [math.exp(value) for value in sorted(logprobs, reverse=True)[:TOP]]
    total = sum(weights)
    return -sum(w / total * math.log(w / total) for w in weights if w > 0.0)


def join(first: Signals, rest: Signals) -> Signals:
    """Signals of two pieces of text that follow each other."""
    length = first.length + rest.length
    if not first.length or not rest.length:
        return first if first.length else rest
    return Signals(
        mean_logprob=(first.mean_logprob * first.length + rest.mean_logprob * rest.length) / length,
        min_logprob=min(first.min_logprob, rest.min_logprob),
        first_entropy=first.first_entropy,
        margin=min(first.margin, rest.margin),
        length=length,
    )
