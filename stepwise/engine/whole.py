"""A whole answer in one call, cut into steps: where every step boundary would cost a call.

The call is charged when it returns, with the first step. The others have cost nothing, and each has a share
of the tokens that the server counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from stepwise.engine import signals
from stepwise.engine.backend import Backend, Completion
from stepwise.engine.boundaries import Boundaries
from stepwise.types import Usage


def cut(answer: Completion, boundaries: Boundaries, backend: Backend) -> list[Completion]:
    """The steps of an answer. Their token counts are in ``usage.completion``, and add up to the answer's."""
    texts = pieces(answer.text, boundaries)
    if len(texts) == 1:
        return [answer]
    tokens = shares(answer.usage.completion, [len(text) for text in texts])
    steps = [
        Completion(
            text, backend.encode(text, first=False), Usage(completion=count), signals.missing(count), "stop"
        )
        for text, count in zip(texts, tokens, strict=True)
    ]
    return [*steps[:-1], replace(steps[-1], finish=answer.finish)]


def pieces(text: str, boundaries: Boundaries) -> list[str]:
    """A text's steps; blanks at its end belong to the last one."""
    steps = ["".join(step) for step in boundaries.steps(text, len(text) + 1)] or [""]
    if len(steps) > 1 and not steps[-1].strip():
        steps[-2:] = ["".join(steps[-2:])]
    return steps


def shares(total: int, sizes: Sequence[int]) -> list[int]:
    """A total in proportion to sizes, in whole numbers that add up to it."""
    done = whole = 0
    parts = []
    for size in sizes:
        done += size
        parts.append(total * done // max(sum(sizes), 1) - whole)
        whole += parts[-1]
    return parts
