"""What calibration knows: how a router did on every problem of a split, at every threshold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stepwise.errors import ConfigError


@dataclass(frozen=True, eq=False)
class CalibrationRecord:
    """Recorded results; a target is turned into a threshold from these alone.

    Attributes:
        thresholds: [T], ascending: the first sends most steps to the large model.
        correct: [T, n] bool.
        cost: [T, n] measured cost, in ``unit``.
        large_correct: [n] bool, of large-only.
        large_cost: [n], of large-only.
        groups: [n] a label a problem (its difficulty), for the report by group.
        unit: of the costs: "flops", "tokens" or "usd".
        split: hash of the problems' ids.

    Raises:
        ConfigError: if shapes disagree, thresholds do not rise, or a cost is not a positive number.
    """

    thresholds: NDArray[np.float64]
    correct: NDArray[np.bool_]
    cost: NDArray[np.float64]
    large_correct: NDArray[np.bool_]
    large_cost: NDArray[np.float64]
    groups: NDArray[np.str_]
    unit: str
    split: str

    def __post_init__(self) -> None:
        shape = (len(self.thresholds), len(self.large_cost))
        shapes = {self.correct.shape, self.cost.shape, (shape[0], *self.large_correct.shape)}
        if shapes != {shape} or self.groups.shape != shape[1:] or 0 in shape:
            raise ConfigError(
                f"calibration record: {shape[0]} thresholds and {shape[1]} problems do not fit tables of "
                f"{self.correct.shape}, {self.cost.shape}, {self.large_correct.shape}, {self.groups.shape}."
            )
        if not (np.diff(self.thresholds) > 0).all():
            raise ConfigError("calibration record: thresholds must rise.")
        for name, costs in (("cost", self.cost), ("large_cost", self.large_cost)):
            if not (np.isfinite(costs).all() and (costs > 0).all()):
                raise ConfigError(f"calibration record: {name} must be positive numbers throughout.")

    @property
    def n(self) -> int:
        """How many problems."""
        return len(self.large_cost)

    @property
    def accuracy(self) -> NDArray[np.float64]:
        """[T] share of problems answered right."""
        return np.asarray(self.correct.mean(1))

    @property
    def cost_share(self) -> NDArray[np.float64]:
        """[T] mean cost as a fraction of large-only's."""
        return np.asarray(self.cost.mean(1) / self.large_cost.mean())

    @property
    def losses(self) -> NDArray[np.float64]:
        """[T, n] 1 where large-only is right and the router is wrong."""
        return (self.large_correct & ~self.correct).astype(float)

    def excess(self, budget: float) -> tuple[NDArray[np.float64], float]:
        """Losses in [0, 1] whose mean is at most a limit exactly when the budget holds.

        The budget is E[cost] <= budget * E[large cost]. The loss of a problem is its cost minus
        ``budget`` times its large-only cost, shifted and scaled by the largest cost in the record:
        the stated cap, beyond which a new problem's cost is taken to lie with negligible weight.

        Returns:
            losses [T, n] and the limit of their mean.
        """
        cap = max(self.cost.max(), self.large_cost.max())
        losses = (self.cost - budget * self.large_cost + budget * cap) / (cap * (1 + budget))
        return losses, budget / (1 + budget)

    def subset(self, problems: NDArray[np.intp]) -> CalibrationRecord:
        """The record of some of the problems (repeats allowed)."""
        return CalibrationRecord(
            self.thresholds, self.correct[:, problems], self.cost[:, problems], self.large_correct[problems],
            self.large_cost[problems], self.groups[problems], self.unit, self.split,
        )  # fmt: skip

    def by_group(self, threshold: float) -> list[dict[str, Any]]:
        """Accuracy, loss against large-only and cost share of each group at one threshold."""
        at = int(np.searchsorted(self.thresholds, threshold))
        if at == len(self.thresholds) or self.thresholds[at] != threshold:
            raise ConfigError(f"threshold must be one of the {len(self.thresholds)} in the record.")
        lines = []
        for group in np.unique(self.groups):
            part = self.subset(np.flatnonzero(self.groups == group))
            lines.append(
                {
                    "group": str(group),
                    "n": part.n,
                    "accuracy": float(part.accuracy[at]),
                    "accuracy_loss": float(part.losses[at].mean()),
                    "cost": float(part.cost_share[at]),
                }
            )
        return lines

    def summary(self) -> dict[str, Any]:
        """The curve and its provenance, for people."""
        return {
            "n": self.n,
            "split": self.split,
            "cost_unit": self.unit,
            "thresholds": self.thresholds.tolist(),
            "accuracy": self.accuracy.round(4).tolist(),
            "accuracy_loss": self.losses.mean(1).round(4).tolist(),
            "cost": self.cost_share.round(4).tolist(),
        }

    def save(self, path: Path) -> None:
        """One compressed file: costs in single precision."""
        np.savez_compressed(
            path, thresholds=self.thresholds, correct=self.correct, cost=self.cost.astype(np.float32),
            large_correct=self.large_correct, large_cost=self.large_cost.astype(np.float32),
            groups=self.groups, unit=np.array(self.unit), split=np.array(self.split),
        )  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> CalibrationRecord:
        """Read what `save` wrote.

        Raises:
            OSError: if the file cannot be read.
            ConfigError: if its tables do not fit each other.
        """
        with np.load(path) as stored:
            return cls(
                stored["thresholds"], stored["correct"], stored["cost"].astype(np.float64),
                stored["large_correct"], stored["large_cost"].astype(np.float64), stored["groups"],
                str(stored["unit"]), str(stored["split"]),
            )  # fmt: skip
