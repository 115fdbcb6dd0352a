"""Count what is drawn between two problems of a split.

    python -m scripts.nano.gaps

Run it whenever what `stepwise.data.nano` draws has changed; it takes minutes.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from stepwise.data.nano.gaps import WORD
from stepwise.data.nano.problems import plan, split_of, tell
from stepwise.data.nano.story import STANDARD

FILE = Path("stepwise/assets/nano/gaps.json")
PROBLEMS = {"train": 3000, "calibration": 1000, "validation": 1000, "test": 1000}  # what the programs take


class Counted(random.Random):
    """Counts the words that it has made."""

    words = 0

    def getrandbits(self, k: int, /) -> int:
        self.words += -(-k // WORD)
        return super().getrandbits(k)

    def random(self) -> float:
        self.words += 2
        return super().random()


def gaps(split: str) -> Iterator[tuple[int, int]]:
    """Words before each problem of the split, and words between its plan and its story."""
    rng = Counted(f"{split}-0")
    end = 0
    seen: set[str] = set()
    while True:
        start = rng.words
        size, hard = plan(rng, STANDARD)
        planned = rng.words
        told = planned
        while (problem := tell(rng, STANDARD, size, hard)) is None:
            told = rng.words
        if problem.id not in seen and split_of(problem.question) == split:
            seen.add(problem.id)
            yield start - end, told - planned
            end = rng.words


if __name__ == "__main__":
    rows = {split: list(islice(gaps(split), n)) for split, n in PROBLEMS.items()}
    FILE.write_text(json.dumps(rows, separators=(",", ":")) + "\n")
