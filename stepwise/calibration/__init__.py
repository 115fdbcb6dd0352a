"""Calibration: from a target on cost or accuracy to a threshold, with a guarantee."""

from __future__ import annotations

from stepwise.calibration.online import OnlineThreshold
from stepwise.calibration.record import CalibrationRecord
from stepwise.calibration.target import Calibration, calibrate, check_targets

__all__ = ["Calibration", "CalibrationRecord", "OnlineThreshold", "calibrate", "check_targets"]
