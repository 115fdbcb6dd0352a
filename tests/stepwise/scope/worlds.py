"""A world whose truth is known: sums are harder the more numbers they have, and models differ in ability."""

from __future__ import annotations

import numpy as np

from stepwise.scope import AnchorSet, Fingerprint, FingerprintStore, Price, Problem

ABILITY = {"weak": -1.0, "middling": 0.5, "strong": 2.0}
PRICE = {"weak": 0.1, "middling": 0.5, "strong": 2.0}


def problems(count: int, seed: int = 0) -> list[Problem]:
    random = np.random.default_rng(seed)
    found: dict[str, Problem] = {}
    while len(found) < count:
        numbers = random.integers(10, 99, int(random.integers(2, 14)))
        question = "What is " + " plus ".join(map(str, numbers)) + "?"
        found[question] = Problem(f"{seed}-{len(found)}", question, str(numbers.sum()))
    return list(found.values())


def difficulty(problem: Problem) -> float:
    """In units of ability, from -2 to 2."""
    return (problem.question.count("plus") - 6.5) / 3


def chance(model: str, problem: Problem) -> float:
    return float(1 / (1 + np.exp(-2 * (ABILITY[model] - difficulty(problem)))))


def fingerprint(model: str, anchors: AnchorSet, seed: int = 0) -> Fingerprint:
    random = np.random.default_rng([seed, sorted(ABILITY).index(model)])
    length = np.array([10 * (2 + problem.question.count("plus")) for problem in anchors])
    return Fingerprint(
        model=model,
        anchor_ids=[problem.id for problem in anchors],
        correct=[float(random.random() < chance(model, problem)) for problem in anchors],
        tokens=np.round(length * np.exp(0.1 * random.standard_normal(len(length)))),
        price=Price(input=PRICE[model] / 4, output=PRICE[model]),
        anchors=anchors.digest,
    )


def store(anchors: AnchorSet, models: tuple[str, ...] = tuple(ABILITY)) -> FingerprintStore:
    found = FingerprintStore(":memory:")
    found.add(*(fingerprint(model, anchors) for model in models))
    return found
