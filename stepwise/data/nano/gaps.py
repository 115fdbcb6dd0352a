"""What is drawn between two problems of a split, as far as it is known: a problem is then drawn at once.

Of 35 stories one is kept: the others leave a quantity idle or belong to another split. What they used of the
random numbers is counted once, by `scripts.nano.gaps`, in words of 32 bits, and kept beside the code. Skipped
or drawn, the problems are the same.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

WORD = 32  # bits that Mersenne Twister makes at a time


def skip(rng: random.Random, words: int) -> None:
    """Leave the generator where it would be after so many words."""
    rng.getrandbits(WORD * words)


def known_gaps(split: str) -> Iterator[tuple[int, int]]:
    """For problem after problem (`STANDARD`, seed 0): words before it, and words before its story."""
    return iter(_counted()[split])


@cache
def _counted() -> dict[str, list[tuple[int, int]]]:
    text = (files("stepwise") / "assets" / "nano" / "gaps.json").read_text()
    counted: dict[str, list[tuple[int, int]]] = json.loads(text)
    return counted
