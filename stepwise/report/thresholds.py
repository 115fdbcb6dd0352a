"""What the thresholds of known routers are, for the line below a table of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

CHEAPER, DEARER = "higher = cheaper", "higher = more of the large model"
MEANING = {
    "random": ("the probability that a step goes to the large model", DEARER),
    "random_query": ("the probability that a whole question goes to the large model", DEARER),
    "large_first": ("how many steps the large model writes first", DEARER),
    "small_first": ("how many steps the small model writes first", CHEAPER),
    "confidence": ("−log p of the draft's least likely token", CHEAPER),
    "mean_confidence": ("mean −log p of the draft's tokens", CHEAPER),
    "entropy": ("entropy of the step's first token (nats)", CHEAPER),
    "verified": ("−log p of the draft's least likely token to the large model", CHEAPER),
    "verify_doubtful": ("as verified, of drafts that the small model doubts", CHEAPER),
    "prm": ("1 less the draft's process reward", CHEAPER),
    "specreason": ("9 less the judge's grade of the draft", CHEAPER),
    "query": ("P(the question needs the large model)", CHEAPER),
    "steer": ("P(the last step was an unsure one)", CHEAPER),
    "trim_agg": ("cost weight of a token of the large model", CHEAPER),
    "scope": ("alpha, the weight of P(correct) against cost", DEARER),
    "seeded": ("least gain in P(correct) per unit of cost, after the first step", CHEAPER),
    "ppo": ("least gain in P(correct) per unit of cost, 1 being the large model alone", CHEAPER),
}
"""By router, what its threshold is and which way it turns: where a score is compared with it, the large model
writes the step from the threshold on."""


class Pointed(Protocol):
    """A setting of a router."""

    @property
    def threshold(self) -> float | None: ...


def ascending(setting: Pointed) -> float:
    """What settings of a router are sorted by."""
    return -math.inf if setting.threshold is None else setting.threshold


def knobs(routers: Iterable[str]) -> list[str]:
    """A line on the threshold of each router, as far as they are known."""
    known = [(name, *MEANING[name]) for name in routers if name in MEANING]
    return [f"{name}: {meaning}; {direction}" for name, meaning, direction in known]


def legend(routers: Iterable[str]) -> str:
    """`knobs` as text below a table; '' where none is known."""
    lines = knobs(routers)
    return "\n  ".join(["Thresholds:", *lines]) if lines else ""
