"""Routers choose who writes the next step."""

from __future__ import annotations

from stepwise.routers.artifact import PolicyArtifact
from stepwise.routers.fitted import LowConfidence, NeedsLarge
from stepwise.routers.fixed import Always, LargeFirst, Random, SmallFirst
from stepwise.routers.judged import JudgeDigit, ProcessReward
from stepwise.routers.policy import PolicyRouter, load_router
from stepwise.routers.threshold import Confidence, FirstTokenEntropy, Scorer, ThresholdRouter, Verified
from stepwise.routers.verifying import VerifyDoubtful

__all__ = [
    "Always",
    "Confidence",
    "FirstTokenEntropy",
    "JudgeDigit",
    "LargeFirst",
    "LowConfidence",
    "NeedsLarge",
    "PolicyArtifact",
    "PolicyRouter",
    "ProcessReward",
    "Random",
    "Scorer",
    "SmallFirst",
    "ThresholdRouter",
    "Verified",
    "VerifyDoubtful",
    "load_router",
]
