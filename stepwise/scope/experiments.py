"""What a store's own anchors say about SCOPE's dials: every figure is about anchors that were left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stepwise.errors import ConfigError
from stepwise.scope.anchors import AnchorSet
from stepwise.scope.estimators import Neighbours
from stepwise.scope.estimators.base import Array
from stepwise.scope.fingerprint import Fingerprint
from stepwise.scope.fingerprint_store import FingerprintStore
from stepwise.scope.scope import Scope

SIZES = (25, 50, 100, 250, 400, 1000)
NEIGHBOURS = (1, 2, 5, 10, 20, 40)
TEST = 0.2
"""Share of the anchors on which sets of the others are judged."""
FEWEST = 50


@dataclass(frozen=True)
class Judged:
    """One setting of a dial with the quality of its forecasts of left-out anchors.

    Attributes:
        auc: area under the curve over all models; 0.5 knows nothing. nan where all answers are alike.
        brier: mean squared error of the probabilities.
    """

    dial: str
    setting: int
    auc: float
    brier: float


def by_size(anchors: AnchorSet, store: FingerprintStore, seed: int = 0) -> Iterator[Judged]:
    """The default estimator with fewer anchors, on a fifth of them that it never sees.

    Raises:
        ConfigError: if there are fewer than 50 anchors, or the fingerprints do not fit.
    """
    if len(anchors) < FEWEST:
        raise ConfigError(f"anchors: experiments need at least {FEWEST}, and there are {len(anchors)}.")
    order = np.random.default_rng(seed).permutation(len(anchors)).tolist()
    cut = round(TEST * len(anchors))
    whole = Scope(anchors=anchors, fingerprints=store)
    questions = [anchors.questions[i] for i in order[:cut]]
    rest = order[cut:]
    for size in [n for n in SIZES if n < len(rest)] + [len(rest)]:
        scope = _of(anchors, store, sorted(rest[:size]))
        names = [name for name in whole.known.models if name in scope.known.models]
        rows = [whole.known.models.index(name) for name in names]
        truth = whole.known.value[rows][:, order[:cut]]
        yield _judged("anchors", size, truth, scope.beliefs(questions, names).value)


def by_neighbours(anchors: AnchorSet, store: FingerprintStore) -> Iterator[Judged]:
    """Neighbours alone, by their number, leaving one anchor out at a time."""
    known = Scope(anchors=anchors, fingerprints=store, estimator=Neighbours()).known
    for k in [k for k in NEIGHBOURS if k < len(anchors)]:
        yield _judged("neighbours", k, known.value, Neighbours(k).fit(known).held_out().value)


def _of(anchors: AnchorSet, store: FingerprintStore, at: Sequence[int]) -> Scope:
    """A scope over some of the anchors."""
    some, kept = AnchorSet([anchors.problems[i] for i in at]), FingerprintStore(":memory:")
    kept.add(*(part for taken in store.on(anchors.digest) if (part := _part(taken, some))))
    return Scope(anchors=some, fingerprints=kept)


def _part(taken: Fingerprint, anchors: AnchorSet) -> Fingerprint | None:
    """What a fingerprint says of these anchors; None if nothing."""
    at = [i for i, name in enumerate(taken.anchor_ids) if name in anchors.place]
    if not at:
        return None
    return replace(
        taken,
        anchor_ids=[taken.anchor_ids[i] for i in at],
        correct=[taken.correct[i] for i in at],
        tokens=[taken.tokens[i] for i in at],
        prompt_tokens=None,
        cached_tokens=None,
        scores={},
        anchors=anchors.digest,
    )


def _judged(dial: str, setting: int, truth: Array, value: Array) -> Judged:
    from sklearn.metrics import roc_auc_score

    clear = (truth <= 0) | (truth >= 1)
    kinds = len(np.unique(truth[clear]))
    auc = float(roc_auc_score(truth[clear], value[clear])) if kinds == 2 else float("nan")
    return Judged(dial, setting, auc, float(np.nanmean((truth - value) ** 2)))
