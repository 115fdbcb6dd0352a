"""What the thresholds of known routers are, for the line below a table of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

MEANING = {
    "random": "the probability that a step goes to the large model",
    "random_query": "the probability that a whole question goes to it",
    "large_first": "how many steps the large model writes first",
    "small_first": "how many steps the small model writes first",
    "confidence": "−log p of the draft's least likely token",
    "mean_confidence": "mean −log p of the draft's tokens",
    "entropy": "entropy of the step's first token (nats)",
    "ppo": "least gain in P(correct) per unit of cost, 1 being the large model alone",
}
"""By router. The large model writes the step where the threshold is reached, if it is compared."""


class Pointed(Protocol):
    """A setting of a router."""

    @property
    def threshold(self) -> float | None: ...


def ascending(setting: Pointed) -> float:
    """What settings of a router are sorted by."""
    return -math.inf if setting.threshold is None else setting.threshold


def legend(routers: Iterable[str]) -> str:
    """A line on the thresholds of some routers; '' where none is known."""
    known = [f"{name}: {MEANING[name]}" for name in routers if name in MEANING]
    return f"Thresholds. {'; '.join(known)}." if known else ""
