"""Pictures of a SCOPE study: how reliable the probabilities are, and the frontier of routing by them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stepwise.report.plot import COLORS, INK, MARKERS, MUTED, PAPER, STYLE

SHOWN = ("mean", "neighbours", "combined", "combined_aux")


def draw(result: Mapping[str, Any], path: Path, *, title: str) -> None:
    """Write a PNG: reliability on the left, routing on the right."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(10.2, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        _reliability(left, result["estimators"], title)
        _routing(right, result["routing"]["splits"])
        figure.savefig(path, dpi=160, format="png")


def _reliability(axes: Any, estimators: Mapping[str, Any], title: str) -> None:
    axes.plot([0, 100], [0, 100], color=MUTED, linestyle=(0, (4, 3)), linewidth=1.1)
    shown = [name for name in SHOWN if name in estimators]
    for name, color, marker in zip(shown, COLORS, MARKERS, strict=False):
        said, was, count = np.array(estimators[name]["reliability"]).T
        keep = count >= 50  # a bin of a few predictions says nothing
        error = estimators[name]["all"]["calibration_error"][0]
        label = f"{name} (error {100 * error:.1f} points)"
        axes.plot(100 * said[keep], 100 * was[keep], color=color, marker=marker, markersize=5, label=label)
    axes.set_xlabel("predicted to be right (%)")
    axes.set_ylabel("was right (%)")
    axes.set_title(f"{title}: reliability", loc="left", fontsize=9.5)
    _finish(axes)


def _routing(axes: Any, splits: Any) -> None:
    for i, routed in enumerate(splits):
        cost, accuracy = zip(*((point["cost"], point["accuracy"]) for point in routed["curve"]), strict=True)
        axes.plot(
            1000 * np.array(cost), 100 * np.array(accuracy), color=COLORS[0], alpha=0.45, linewidth=1.0,
            label="SCOPE as alpha moves, one line a split" if i == 0 else None,
        )  # fmt: skip
    models = {
        name: np.mean([routed["models"][name] for routed in splits], axis=0) for name in splits[0]["models"]
    }
    cost, accuracy = np.array(list(models.values())).T
    axes.plot(
        1000 * cost,
        100 * accuracy,
        "o",
        color=MUTED,
        markersize=4,
        markeredgecolor=PAPER,
        label="a model alone",
    )
    oracle = np.mean([[routed["oracle"]["cost"], routed["oracle"]["accuracy"]] for routed in splits], axis=0)
    axes.plot(1000 * oracle[0], 100 * oracle[1], "*", color=INK, markersize=13, label="oracle")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("cost of a question (thousandths of a dollar, estimated tokens)")
    axes.set_ylabel("right (%)")
    axes.set_title("routing by the estimates", loc="left", fontsize=9.5)
    _finish(axes)


def _finish(axes: Any) -> None:
    axes.grid(True)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.legend(loc="lower right", fontsize=8, handlelength=2.0)
