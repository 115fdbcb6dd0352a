"""One split of recorded outcomes: anchors that are known, and questions to be scored on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from scripts.scope.measures import Array
from scripts.scope.records import Outcomes
from stepwise.engine.cost import Price
from stepwise.scope import AnchorSet
from stepwise.scope.embed import open_embedder
from stepwise.scope.estimators import Beliefs, Estimator
from stepwise.scope.features import Features
from stepwise.scope.known import Compared, Known, gather
from stepwise.scope.recipes import read_rows
from stepwise.types import Problem


@dataclass(frozen=True)
class Cut:
    """What is known of the anchors, and what happened on the other questions.

    Attributes:
        value: on the other questions, [m, q] in the order of ``known.models`` (nan: no answer). ``tokens``
            likewise.
        contested: [m], models whose outcome is least foreseeable.
    """

    known: Known
    compared: Compared
    value: Array
    tokens: Array
    contested: NDArray[np.bool_]

    @cached_property
    def rows(self) -> NDArray[np.intp]:
        return np.arange(len(self.known.models))

    @cached_property
    def cost(self) -> Array:
        """Of what happened, [m, q]."""
        return self.known.cost(self.tokens, self.compared.questions, self.rows)

    def beliefs(self, estimator: Estimator) -> Beliefs:
        """Of an estimator that is fitted to the anchors now."""
        return estimator.fit(self.known).predict(self.compared, self.rows)

    def auc(self, value: Array) -> dict[str, float]:
        """Areas over all models, and over the contested ones where there are any."""
        areas = {"all": area(self.value, value)}
        if self.contested.any():
            areas["contested"] = area(self.value[self.contested], value[self.contested])
        return areas


def area(truth: Array, value: Array) -> float:
    """Area under the curve over outcomes that are clearly right or wrong; nan where all are the same."""
    clear = (truth <= 0) | (truth >= 1)
    outcomes = truth[clear]
    if len(np.unique(outcomes)) < 2:
        return float("nan")
    return float(roc_auc_score(outcomes, value[clear]))


def cut(
    data: Outcomes,
    anchors: Sequence[int],
    test: Sequence[int],
    models: Sequence[int],
    contested: Sequence[float] = (0.3, 0.65),
) -> Cut:
    """A split by places of questions, for some of the models."""
    at = sorted(int(i) for i in anchors)
    chosen = AnchorSet([data.problems[i] for i in at])
    features = Features(open_embedder("tfidf"))
    encoded = features.fit(chosen.questions)
    known = gather(chosen, encoded, [data.fingerprint(row, at) for row in models], "correct", 0.5)
    places, test = [data.models.index(name) for name in known.models], list(test)
    share = np.nanmean(data.correct[places], axis=1)
    return Cut(
        known,
        known.compare(features.encode([data.problems[i].question for i in test])),
        data.correct[places][:, test],
        np.maximum(data.tokens[places][:, test], 1.0),
        (share > contested[0]) & (share < contested[1]),
    )


def shared_pool(path: str, name: str) -> Outcomes:
    """Questions with a score per model and no token counts, each answer counting as one token.

    A price is a model's billions of parameters where its name tells them, so that a cost is in those.
    """
    unique = list({row["question"].strip().casefold(): row for row in read_rows(path)}.values())
    models = list(unique[0]["scores"])
    right = np.array([[row["scores"][model] for row in unique] for model in models], dtype=np.float64)
    problems = [Problem(str(i), row["question"]) for i, row in enumerate(unique)]
    sizes = [re.search(r"(\d+(?:\.\d+)?)b\b", model.lower()) for model in models]
    prices = [Price(0.0, float(size[1])) if size else None for size in sizes]
    return Outcomes(name, problems, models, right, np.ones_like(right), prices)
