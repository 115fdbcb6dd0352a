"""Calibration: from a target on cost or accuracy to a threshold, with a guarantee."""

from __future__ import annotations

from stepwise.calibration.online import OnlineThreshold
from stepwise.calibration.record import Record
from stepwise.calibration.target import Calibration, calibrate, check_targets, quantile_threshold

__all__ = ["Calibration", "OnlineThreshold", "Record", "calibrate", "check_targets", "quantile_threshold"]
