"""A pool of specialists at small prices, and a model that knows everything at many times their price."""

from __future__ import annotations

import numpy as np

from stepwise.scope import AnchorSet, Fingerprint, FingerprintStore, Price, Problem

TOPICS = {
    "algebra": "equation root variable",
    "poetry": "rhyme verse stanza",
    "code": "function loop array",
    "history": "treaty empire battle",
}
PRICE = {"algebra": 0.5, "poetry": 1.0, "code": 2.0, "history": 4.0, "giant": 100.0}
GOOD, BAD, TOKENS = 0.95, 0.35, 200


def problems(count: int, seed: int = 0) -> list[Problem]:
    random = np.random.default_rng(seed)
    drawn = random.choice(list(TOPICS), count)
    return [Problem(f"{seed}-{i}", f"{TOPICS[topic]} of case {i}", topic) for i, topic in enumerate(drawn)]


def chance(model: str, problem: Problem) -> float:
    return GOOD if model in ("giant", problem.answer) else BAD


def cost(model: str) -> float:
    """Of an answer, in dollars; prompts are free."""
    return TOKENS * PRICE[model] * 1e-6


def store(anchors: AnchorSet, seed: int = 0) -> FingerprintStore:
    random, found = np.random.default_rng([seed, 1]), FingerprintStore(":memory:")
    for model, price in PRICE.items():
        right = [float(random.random() < chance(model, problem)) for problem in anchors]
        ids = [problem.id for problem in anchors]
        found.add(
            Fingerprint(
                model=model,
                anchor_ids=ids,
                correct=right,
                tokens=[TOKENS] * len(ids),
                price=Price(0.0, price),
            )
        )
    return found
