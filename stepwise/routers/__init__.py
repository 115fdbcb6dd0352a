"""Routers choose who writes the next step."""

from __future__ import annotations

from stepwise.routers.artifact import PolicyArtifact, PolicyRouter, load_router
from stepwise.routers.fixed import Always, LargeFirst, Random, SmallFirst
from stepwise.routers.threshold import Confidence, FirstTokenEntropy, Scorer, ThresholdRouter

__all__ = [
    "Always",
    "Confidence",
    "FirstTokenEntropy",
    "LargeFirst",
    "PolicyArtifact",
    "PolicyRouter",
    "Random",
    "Scorer",
    "SmallFirst",
    "ThresholdRouter",
    "load_router",
]
