"""From a table of results to anchors and fingerprints."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Literal

from stepwise.engine.cost import Price
from stepwise.errors import ConfigError
from stepwise.scope.anchors import AnchorSet, choose_anchors
from stepwise.scope.fingerprint import Fingerprint
from stepwise.scope.novelty import OUTSIDE, Novelty
from stepwise.scope.table import Outcome, Results
from stepwise.types import Problem

COMPARED = 1000
"""Of a table's questions that are no anchors, for how many of them look unlike the anchors."""
OUTSIDE_SHARE = "share of other questions called outside"
"""Where that stands in the provenance of an anchor set."""
TokenSource = Literal["measured", "estimated from responses", "costs in micro-dollars", "one per answer"]


def anchors_of(results: Results, n: int, *, coverage: float = 0.5, seed: int = 0) -> AnchorSet:
    """Covering anchors among the questions that most models have answered; groups get places by their size.

    Args:
        n: how many; fewer where there are fewer questions.
        coverage: the least share of the models that an anchor was answered by.

    Raises:
        ConfigError: if no question was answered by enough models.
    """
    needed = coverage * len(results.models)
    enough = (question for question, outcomes in results.outcomes.items() if len(outcomes) >= needed)
    texts = sorted(enough, key=_id)  # whatever the order of the rows
    if not texts:
        raise ConfigError(f"results: no question was answered by {coverage:.0%} of the models.")
    problems = [Problem(_id(text), text, results.answers.get(text, "")) for text in texts]
    count = min(n, len(problems))
    sizes = Counter(results.groups.get(text, "") for text in texts)
    strata = [results.groups.get(text, "") for text in texts] if 1 < len(sizes) <= count else None
    anchors = choose_anchors(problems, count, strata=strata, seed=seed, provenance={"layout": results.layout})
    others = sorted(results.outcomes.keys() - set(anchors.questions), key=_id)[:COMPARED]
    if others:
        outside = Novelty(anchors.questions)(others) < OUTSIDE
        anchors.provenance[OUTSIDE_SHARE] = float(outside.mean())
    return anchors


def fingerprints_of(
    results: Results, anchors: AnchorSet, prices: Mapping[str, Price] | None = None
) -> tuple[list[Fingerprint], dict[str, TokenSource]]:
    """A fingerprint of every model that has answered an anchor, and what its token counts are.

    Where a table has costs and a model no price, the price is the one output price at which its tokens cost
    what they did. Where it has costs and no tokens, micro-dollars stand in for tokens: costs are then right.
    """
    sources: dict[str, TokenSource] = {}
    taken: list[Fingerprint] = []
    for model in results.models:
        answered = {
            problem.id: outcome
            for problem in anchors
            if (outcome := results.outcomes[problem.question].get(model)) is not None
        }
        if not answered:
            continue
        outcomes = list(answered.values())
        tokens, sources[model] = _tokens(outcomes)
        price = (prices or {}).get(model) or _price(outcomes, tokens)
        taken.append(
            Fingerprint(
                model=model,
                anchor_ids=list(answered),
                correct=[outcome.correct for outcome in outcomes],
                tokens=tokens,
                price=price,
                anchors=anchors.digest,
                estimated=sources[model] != "measured",
            )
        )
    return taken, sources


def _id(question: str) -> str:
    return hashlib.blake2b(question.encode(), digest_size=6).hexdigest()


def _tokens(outcomes: list[Outcome]) -> tuple[list[float], TokenSource]:
    tokens = [outcome.tokens for outcome in outcomes if outcome.tokens is not None]
    costs = [outcome.cost for outcome in outcomes if outcome.cost is not None]
    if len(tokens) == len(outcomes):
        guessed = any(outcome.estimated for outcome in outcomes)
        return tokens, "estimated from responses" if guessed else "measured"
    if len(costs) == len(outcomes) and any(costs):
        return [max(cost * 1e6, 1e-3) for cost in costs], "costs in micro-dollars"
    return [1.0] * len(outcomes), "one per answer"


def _price(outcomes: list[Outcome], tokens: list[float]) -> Price | None:
    costs = [outcome.cost for outcome in outcomes if outcome.cost is not None]
    if len(costs) < len(outcomes):
        return None
    return Price(0.0, sum(costs) / sum(tokens) * 1e6)
