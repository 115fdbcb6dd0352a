"""Signals: what a model's own token probabilities say about a step that it wrote."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stepwise.types import Signals

TOP = 20
"""Alternatives per token that a backend looks at (GlimpRouter's top 20)."""


ROUNDING = 1e-3
"""A log-probability of float16 may come out this much too high."""
LEAST, LEAST_TOP = -1e5, -100.0
"""Of a token that was chosen (vLLM writes -9999 for "impossible"), and of the likeliest of a vocabulary."""


def measure(chosen: Sequence[float], top: Sequence[Sequence[float]]) -> Signals:
    """Signals of a completion.

    Args:
        chosen: log-probability of each generated token, length n.
        top: for each token the largest log-probabilities, in falling order: at least 2 of them
            for every token and up to `TOP` for the first.

    Numbers that cannot be log-probabilities, or too few of them, are no signal.
    """
    if not chosen:
        return Signals()
    if not _possible(chosen, top):
        return missing(len(chosen))
    return Signals(
        mean_logprob=min(sum(chosen) / len(chosen), 0.0),
        min_logprob=min(*chosen, 0.0),
        first_entropy=entropy(top[0]),
        margin=min(1.0, *(math.exp(row[0]) - math.exp(row[1]) for row in top)),
        length=len(chosen),
    )


def missing(tokens: int) -> Signals:
    """Signals of so many tokens whose probabilities nobody knows."""
    return Signals(length=tokens, missing=True)


def _possible(chosen: Sequence[float], top: Sequence[Sequence[float]]) -> bool:
    """Whether these can be log-probabilities, none of them NaN. An alternative may be impossible (-inf); the
    likeliest token is at least as likely as the one that was chosen."""
    return (
        len(chosen) == len(top)
        and all(len(row) > 1 and row[1] <= row[0] <= ROUNDING for row in top)
        and all(LEAST <= value <= row[0] + ROUNDING for value, row in zip(chosen, top, strict=True))
        and all(value <= top[0][0] for value in top[0])
        and top[0][0] > LEAST_TOP
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
        missing=first.missing or rest.missing,
    )
