"""A question as a vector: its words hashed, an embedding that needs no model."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from itertools import pairwise

import numpy as np

SIZE = 16


@lru_cache(maxsize=4096)
def embedding(question: str) -> tuple[float, ...]:
    """Signed sums of a question's words and pairs of words by hash, scaled to length 1 [16].

    Weinberger et al. 2009, Feature Hashing for Large Scale Multitask Learning, equation 2.
    """
    words = re.findall(r"[^\W\d_]+|\d+", question.lower())
    words = ["#" if word.isdigit() else word for word in words]
    sums = np.zeros(SIZE)
    for piece in (*words, *map(" ".join, pairwise(words))):
        digest = hashlib.blake2b(piece.encode(), digest_size=2).digest()
        sums[digest[0] % SIZE] += 1.0 if digest[1] % 2 else -1.0
    return tuple((sums / max(float(np.linalg.norm(sums)), 1.0)).tolist())
