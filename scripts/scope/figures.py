"""Pictures of a SCOPE study: how reliable the probabilities are, and the frontier of routing by them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stepwise.report.style import COLORS, COLUMN, DOTS, INK, MARKERS, MUTED, PAPER, finish

SHOWN = ("mean", "neighbours", "combined", "combined_aux")


def draw(result: Mapping[str, Any], path: Path, *, title: str) -> None:
    """Write a PNG: reliability above, routing below."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(COLUMN.style):
        figure = Figure(figsize=(COLUMN.width, 5.0), layout="constrained")
        above, below = figure.subplots(2, 1)
        _reliability(above, result["estimators"], title)
        _routing(below, result["routing"]["splits"])
        figure.savefig(path, dpi=DOTS, format="png")


def _reliability(axes: Any, estimators: Mapping[str, Any], title: str) -> None:
    axes.plot([0, 100], [0, 100], color=MUTED, linestyle=(0, (4, 3)), linewidth=0.8)
    shown = [name for name in SHOWN if name in estimators]
    for name, color, marker in zip(shown, COLORS, MARKERS, strict=False):
        said, was, count = np.array(estimators[name]["reliability"]).T
        keep = count >= 50  # a bin of a few predictions says nothing
        error = estimators[name]["all"]["calibration_error"][0]
        label = f"{name} (error {100 * error:.1f} points)"
        axes.plot(100 * said[keep], 100 * was[keep], color=color, marker=marker, label=label)
    axes.set_xlabel("predicted to be right (%)")
    axes.set_ylabel("was right (%)")
    axes.set_title(f"{title}: reliability")
    _close(axes)


def _routing(axes: Any, splits: Any) -> None:
    for i, routed in enumerate(splits):
        cost, accuracy = zip(*((point["cost"], point["accuracy"]) for point in routed["curve"]), strict=True)
        axes.plot(
            1000 * np.array(cost), 100 * np.array(accuracy), color=COLORS[0], alpha=0.45, linewidth=0.7,
            label="SCOPE as alpha moves, a line a split" if i == 0 else None,
        )  # fmt: skip
    models = {
        name: np.mean([routed["models"][name] for routed in splits], axis=0) for name in splits[0]["models"]
    }
    cost, accuracy = np.array(list(models.values())).T
    axes.plot(
        1000 * cost, 100 * accuracy, "o", color=MUTED, markersize=3.5, markeredgewidth=0.5,
        markeredgecolor=PAPER, label="a model alone",
    )  # fmt: skip
    oracle = np.mean([[routed["oracle"]["cost"], routed["oracle"]["accuracy"]] for routed in splits], axis=0)
    axes.plot(1000 * oracle[0], 100 * oracle[1], "*", color=INK, markersize=9, label="oracle")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylim(-22, None)  # room for the legend below the models
    axes.set_yticks(range(0, 101, 20))
    axes.set_xlabel("cost of a question ($ / 1000, estimated tokens)")
    axes.set_ylabel("right (%)")
    axes.set_title("routing by the estimates")
    _close(axes)


def _close(axes: Any) -> None:
    finish(axes)
    axes.legend(loc="lower right", handlelength=2.0, labelspacing=0.3)
