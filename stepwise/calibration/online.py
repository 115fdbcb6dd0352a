"""A threshold that keeps spending on target while the traffic drifts."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from stepwise.calibration.record import CalibrationRecord
from stepwise.errors import ConfigError


class OnlineThreshold:
    """Online conformal update with decaying steps (Angelopoulos et al. 2024, arXiv 2402.01139).

    The paper moves the threshold by ``step * (observed - target)``. A threshold has no natural
    unit, so what moves here is the position on the calibrated grid of thresholds, as a fraction
    of the grid. It starts where the calibration split spent the target.

    Args:
        record: the calibration record: its thresholds are the grid.
        target: cost per problem to keep to, as a fraction of large-only, in (0, 1].
        rate: the first step, in grids per unit of excess cost.
        decay: steps shrink as count ** -decay; in (0, 1]. Above 0.5 the paper's long-run guarantee
            holds; lower follows drift faster.

    Attributes:
        grid: identifies the thresholds and what they cost; a position means nothing on another.

    Raises:
        ConfigError: if a value lies outside its range.
    """

    def __init__(
        self, record: CalibrationRecord, target: float, *, rate: float = 1.0, decay: float = 0.6
    ) -> None:
        for name, value, low, high in (
            ("target", target, 0, 1),
            ("decay", decay, 0, 1),
            ("rate", rate, 0, 10),
        ):
            if not low < value <= high:
                raise ConfigError(f"{name} must lie in ({low}, {high}], not {value:g}.")
        self._thresholds = record.thresholds
        tables = record.thresholds.tobytes() + record.cost_share.tobytes()
        self.grid = hashlib.blake2b(tables, digest_size=8).hexdigest()
        self.target, self.rate, self.decay, self.count = target, rate, decay, 0
        costs = np.maximum.accumulate(record.cost_share[::-1])
        self.position = 1.0 - float(np.interp(target, costs, np.linspace(0.0, 1.0, len(costs))))

    @property
    def threshold(self) -> float:
        """To route the next problem with."""
        grid = np.linspace(0.0, 1.0, len(self._thresholds))
        return float(np.interp(self.position, grid, self._thresholds))

    def update(self, cost: float) -> None:
        """Learn what a problem cost.

        Args:
            cost: as a fraction of what large-only costs on average.

        Raises:
            ConfigError: if it is not a number >= 0.
        """
        if not np.isfinite(cost) or cost < 0:
            raise ConfigError(f"cost must be a number >= 0, not {cost}.")
        self.count += 1
        moved = self.position + self.rate * self.count**-self.decay * (cost - self.target)
        # Beyond the ends of the grid nothing changes: winding up there would delay the way back.
        self.position = float(np.clip(moved, 0.0, 1.0))

    def state(self) -> dict[str, Any]:
        """What survives a restart; give it to `restore`."""
        return {"target": self.target, "position": self.position, "count": self.count, "grid": self.grid}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a saved state, of the same ``grid``."""
        self.target, self.position = float(state["target"]), float(state["position"])
        self.count = int(state["count"])
