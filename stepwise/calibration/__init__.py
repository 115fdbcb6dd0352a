"""Calibration: from a target on cost to a threshold."""

from __future__ import annotations

from stepwise.calibration.curve import Curve, measure_curve

__all__ = ["Curve", "measure_curve"]
