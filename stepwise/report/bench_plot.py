"""Routers on a recording: accuracy against cost, with the line of random mixing and the ceiling."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stepwise.evaluation.replayed import Row
from stepwise.extras import require
from stepwise.report.style import COLORS, COLUMN, DOTS, HERO, INK, MUTED, finish

COLOURS = (HERO.color, *COLORS)
MARKERS = "osD^vP"


class Ceiling(NamedTuple):
    """The best that recorded chains allow, with hindsight: shares of the large model's cost, accuracies."""

    cost: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def save_bench(
    rows: Sequence[Row], path: str | Path, *, title: str, unit: str, ceiling: Ceiling | None = None
) -> None:
    """Draw the rows of a bench, the cheapest and the most expensive model first, and save the picture.

    Args:
        unit: of the costs, for the axis.

    Raises:
        ConfigError: if matplotlib is not installed.
    """
    require("pictures", "report", "matplotlib")
    import matplotlib.pyplot as plt

    small, large, *routers = rows
    with plt.rc_context(COLUMN.style):
        figure, axes = plt.subplots(figsize=(COLUMN.width, 2.9), layout="constrained")
        ends = [(row.cost, row.accuracy) for row in (small, large)]
        axes.plot(
            *(100 * np.array(ends)).T, color=MUTED, linestyle=":", label="one model a question, at random"
        )
        # beside what is drawn there
        places = ("small alone", (7, 0), "left"), ("large alone", (3, 22), "right")
        for (cost, accuracy), (name, beside, side) in zip(ends, places, strict=True):
            axes.plot(100 * cost, 100 * accuracy, "*", color=INK, markersize=9)
            axes.annotate(
                name, (100 * cost, 100 * accuracy), beside, textcoords="offset points", ha=side, va="center",
                fontsize=COLUMN.small,
            )  # fmt: skip
        if ceiling is not None:
            axes.plot(100 * ceiling.cost, 100 * ceiling.accuracy, color=INK, linewidth=1.0, label="hindsight")
        for i, row in enumerate(routers):
            _draw(axes, row, COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)])
        axes.set_xlabel(f"cost, % of the large model alone ({unit})")
        axes.set_ylabel("right, % (intervals: 95%)")
        axes.set_title(title)
        finish(axes)
        axes.legend(handlelength=2.0, labelspacing=0.3)
        figure.savefig(path, dpi=DOTS, metadata={"Software": None})
        plt.close(figure)


def _draw(axes, row: Row, colour: str, marker: str) -> None:  # type: ignore[no-untyped-def]
    settings = sorted(row.settings, key=lambda setting: setting.cost)
    cost = [100 * setting.cost for setting in settings]
    right = np.array([100 * setting.accuracy for setting in settings])
    low, high = 100 * np.array([setting.accuracy_ci for setting in settings]).T
    axes.errorbar(
        cost,
        right,
        yerr=[right - low, high - right],
        color=colour,
        marker=marker,
        capsize=2,
        label=row.router,
    )
