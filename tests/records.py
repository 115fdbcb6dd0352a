"""Calibration records with known truth: routers whose accuracy and cost are given by formulas."""

from __future__ import annotations

import numpy as np

from stepwise.calibration import CalibrationRecord

THRESHOLDS = np.linspace(0.0, 2.0, 21)


def spread_record(n: int, seed: int = 0) -> CalibrationRecord:
    """Problems of varying difficulty: the higher the threshold, the fewer reach the large model.

    A problem of need u in [0, 1] goes to large below a threshold of 2u; the small model alone is
    right with probability 1 - u, the large one with probability 0.97.
    """
    rng = np.random.default_rng(seed)
    need, luck, slip = rng.random((3, n))
    large_cost = rng.gamma(4.0, 0.25, n)
    routed = need[None] >= THRESHOLDS[:, None] / 2
    large_correct = slip < 0.97
    small_correct = luck < 1.0 - need
    return CalibrationRecord(
        thresholds=THRESHOLDS,
        correct=np.where(routed, large_correct, small_correct),
        cost=np.where(routed, large_cost, 0.0) + 0.06 * large_cost,
        large_correct=large_correct,
        large_cost=large_cost,
        groups=np.where(need < 0.5, "easy", "hard"),
        unit="flops",
        split="synthetic",
    )
