"""One picture of SCOPE's anatomy: what each dial does, on every set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stepwise.report.style import COLORS, COLUMN, DOTS, MARKERS, MUTED, finish

DIALS = (
    ("sizes", "all", "anchors", "AUC, all models"),
    ("sizes", "contested", "anchors", "AUC, contested models"),
    ("neighbours", "all", "neighbours (K)", "AUC, neighbours alone"),
    ("weight", "log, area", "weight of the record (w)", "mean accuracy"),
    ("portfolio", "models in use", "alpha", "models in use"),
)


def draw(summary: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Write a PNG: a panel a dial, a line a set, bars for the rivals."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(COLUMN.style):
        figure = Figure(figsize=(COLUMN.width, 6.6), layout="constrained")
        parts: Any = figure.subfigures(2, 1, height_ratios=(2, 1))
        above, below = parts
        *dials, names = above.subplots(3, 2).ravel()
        for axes, dial in zip(dials, DIALS, strict=True):
            _dial(axes, summary, *dial)
        names.set_axis_off()
        names.legend(*dials[0].get_legend_handles_labels(), loc="center", title="set")
        _rivals(below.subplots(), summary)
        figure.savefig(path, dpi=DOTS, format="png")


def _dial(axes: Any, summary: Mapping[str, Mapping[str, Any]], part: str, what: str, x: str, y: str) -> None:
    for (name, parts), color, marker in zip(summary.items(), COLORS, MARKERS, strict=False):
        points = {
            float(number.split(", ")[0]): values
            for number, values in parts.get(part, {}).items()
            if number.partition(", ")[2] == what
        }
        if points:
            middle, low, high = zip(*points.values(), strict=True)
            axes.plot(list(points), middle, color=color, marker=marker, label=name)
            axes.fill_between(list(points), low, high, color=color, alpha=0.15, linewidth=0)
    if part == "neighbours":
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel(x)
    axes.set_title(y)
    finish(axes)


def _rivals(axes: Any, summary: Mapping[str, Mapping[str, Any]]) -> None:
    """How far each router's frontier is from mixing at random towards the oracle's."""
    sets = {name: parts["rivals"] for name, parts in summary.items() if "rivals" in parts}
    routers = [
        key.removesuffix(", area")
        for key in dict.fromkeys(key for parts in sets.values() for key in parts)
        if key.endswith(", area") and not key.startswith(("oracle", "random"))
    ]
    for place, ((name, parts), color) in enumerate(zip(sets.items(), COLORS, strict=False)):
        floor, top = (
            parts[f"{end}, area"][0] for end in ("random mix of the cheapest and the best", "oracle")
        )
        heights = [
            100 * (parts[f"{router}, area"][0] - floor) / (top - floor) if f"{router}, area" in parts else 0.0
            for router in routers
        ]
        rows = [i + 0.27 * place for i in range(len(routers))]
        axes.barh(rows, heights, height=0.25, color=color, label=name)
    axes.set_yticks([i + 0.27 for i in range(len(routers))], [name.replace(", ", ",\n") for name in routers])
    axes.set_xlim(0, 100)
    axes.invert_yaxis()
    axes.axvline(0, color=MUTED, linewidth=1.0)
    axes.set_xlabel("from a random mix (0) to the oracle (100)")
    finish(axes)
