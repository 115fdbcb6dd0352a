"""SCOPE: predict, before a token is generated, what each model of a pool will make of a question.

store = FingerprintStore("fingerprints.db")
store.add(Fingerprint(model="m", anchor_ids=[...], correct=[...], tokens=[...], price=Price(...)))
scope = Scope(anchors=AnchorSet([Problem(...), ...]), fingerprints=store, embedder="tfidf")
scope.estimate(question, models=["m", "n"])
scope.choose(question, models=["m", "n"], alpha=0.7)
"""

from __future__ import annotations

from stepwise.engine.cost import Price
from stepwise.scope.anchors import AnchorSet, choose_anchors
from stepwise.scope.features import Auxiliary
from stepwise.scope.fingerprint import Fingerprint
from stepwise.scope.fingerprint_store import FingerprintStore
from stepwise.scope.promise import Setting
from stepwise.scope.scope import Choice, Scope
from stepwise.types import Estimate, Problem

__all__ = [
    "AnchorSet",
    "Auxiliary",
    "Choice",
    "Estimate",
    "Fingerprint",
    "FingerprintStore",
    "Price",
    "Problem",
    "Scope",
    "Setting",
    "choose_anchors",
]
