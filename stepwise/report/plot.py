"""The frontier: accuracy against cost, every router on one pair of axes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from stepwise.evaluation.metrics import RouterMetrics
from stepwise.evaluation.summary import Point, Summary
from stepwise.report.style import (
    COLORS,
    COLUMN,
    DOTS,
    GRID,
    HERO,
    INK,
    MARKERS,
    MUTED,
    PAGE,
    PAPER,
    Look,
    Size,
    finish,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEARNED = "ppo"  # the router that the figure is about
COLUMNS = 2  # of a legend below the lines: the longest labels of three would not fit
MIN_STEPS = 5  # at a position, for its share to be drawn
LEGEND = "router (APGR)"
INSIDE = 6  # the most routers whose legend fits between the lines of a page


def references(summary: Summary) -> tuple[str, str]:
    """The routers that never route: the cheapest and the most expensive model."""
    return summary.models[0], summary.models[-1]


def by_router(summary: Summary) -> dict[str, list[Point]]:
    """Operating points by router, cheapest first; learned router first, then by APGR, models last."""
    points: dict[str, list[Point]] = {}
    for point in sorted(summary.points, key=lambda point: float(point.cost)):
        points.setdefault(point.router, []).append(point)

    def rank(router: str) -> tuple[bool, bool, float]:
        return router in references(summary), router != LEARNED, -(metric(summary, router, "apgr") or 0.0)

    return {router: points[router] for router in sorted(points, key=rank)}


def metric(summary: Summary, router: str, name: str) -> float | None:
    """One metric of a router; None where it is missing or undefined."""
    metrics: RouterMetrics | None = summary.metrics.get(router)
    value = getattr(metrics, name, None)
    return None if value is None or math.isnan(value) else float(value)


def apgr_interval(summary: Summary, router: str) -> tuple[float | None, float | None]:
    """The 95% interval of a router's APGR; None where it is missing or undefined."""
    metrics = summary.metrics.get(router)
    low, high = metrics.apgr_ci if metrics else (None, None)
    return low, high


def cost_percent(summary: Summary, cost: float) -> float:
    """A cost per problem as percent of large-only; nan where that is free or unknown."""
    large = summary.large_cost
    return 100 * cost / large if large else math.nan


def frontier_figure(summary: Summary, size: Size = PAGE) -> Figure:
    """Accuracy (%) against cost (% of large-only), with 95% bands and the random-mixing line."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(size.style):
        figure = Figure(figsize=(size.width, 0.72 * size.width), layout="constrained")
        axes = figure.add_subplot()
        groups = by_router(summary)
        routers = [router for router in groups if router not in references(summary)]
        for router, look in _looks(routers).items():
            _draw_router(axes, summary, router, groups[router], look, size)
        _draw_models(axes, summary, groups, size)
        _draw_oracle(axes, summary, size)
        axes.set_xlabel("cost (% of large model alone)")
        axes.set_ylabel("accuracy (%)")
        axes.set_title(f"{summary.dataset}, {summary.pair} pair, n = {summary.n}")
        axes.set_xlim(left=0)
        axes.margins(y=0.09)
        finish(axes)
        if size is PAGE and len(routers) <= INSIDE:
            axes.legend(
                title=LEGEND, alignment="left", loc="lower right", handlelength=2.2, labelspacing=0.45
            )
        else:
            _legend_below(figure, axes, size)
    return figure


def _legend_below(figure: Figure, axes: Axes, size: Size) -> None:
    """The legend under the axes, for which the figure grows."""
    lines = math.ceil(len(axes.get_legend_handles_labels()[1]) / COLUMNS)
    figure.set_figheight(figure.get_figheight() + (lines + 1) * size.small * 1.4 / 72)
    figure.legend(
        title=LEGEND, alignment="left", loc="outside lower center", ncols=COLUMNS, handlelength=1.8,
        columnspacing=1.2, handletextpad=0.5,
    )  # fmt: skip


def save_frontier(summary: Summary, path: str | Path) -> None:
    """Write the frontier as wide as a paper's column, as a picture of the kind that the path ends in."""
    kind = Path(path).suffix.removeprefix(".")
    frontier_figure(summary, COLUMN).savefig(
        path, dpi=DOTS, format=kind, metadata={"CreationDate": None} if kind == "pdf" else None
    )


def frontier_svg(summary: Summary) -> str:
    """The frontier as an ``<svg>`` element, see `_svg`."""
    return _svg(frontier_figure(summary))


def nearest(summary: Summary, points: list[Point], percent: float) -> Point:
    """A router's point whose cost is nearest to a percentage of large-only's."""
    return min(points, key=lambda point: abs(cost_percent(summary, point.cost) - percent))


def positions_svg(summary: Summary, near: float) -> str:
    """Share of the steps (%) that the largest model wrote, by position in the chain; '' if unknown."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    large = summary.models[-1]
    groups = {
        router: points for router, points in by_router(summary).items() if router not in references(summary)
    }
    with rc_context(PAGE.style):
        figure = Figure(figsize=(PAGE.width, 3.2), layout="constrained")
        axes = figure.add_subplot()
        for router, look in _looks(list(groups)).items():
            counts = nearest(summary, groups[router], near).positions
            totals = [sum(column) for column in zip(*counts.values(), strict=True)] if counts else []
            kept = [i for i, total in enumerate(totals) if total >= MIN_STEPS]
            of = counts.get(large, [0] * len(totals))
            axes.plot(
                [i + 1 for i in kept], [100 * of[i] / totals[i] for i in kept], color=look.color,
                marker=look.marker, linewidth=look.width, markersize=3 + look.width, markeredgecolor=PAPER,
                markeredgewidth=0.6, zorder=look.order, label=router,
            )  # fmt: skip
        if not any(len(line.get_xdata()) for line in axes.lines):  # type: ignore[arg-type]
            return ""
        axes.set_xlabel("step of the chain")
        axes.set_ylabel(f"written by {large} (%)")
        axes.set_ylim(-3, 103)
        finish(axes)
        figure.legend(loc="outside right upper", handlelength=2)
    return _svg(figure)


def reliability_svg(summary: Summary) -> str:
    """How often chains are right (%) against their confidence (%), by model; '' where no model tells."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    binned = {model: bins for model, bins in summary.reliability.items() if bins}
    if not binned:
        return ""
    with rc_context(PAGE.style):
        figure = Figure(figsize=(PAGE.width, 3.6), layout="constrained")
        axes = figure.add_subplot()
        axes.plot([0, 100], [0, 100], color=MUTED, linestyle=(0, (4, 3)), linewidth=1, zorder=2)
        for (model, bins), color, marker in zip(binned.items(), (COLORS[0], HERO.color), "so", strict=False):
            x = [100 * bin_.confidence for bin_ in bins]
            low, high = zip(*([100 * end for end in bin_.accuracy_ci] for bin_ in bins), strict=True)
            axes.vlines(x, low, high, color=color, linewidth=1.2, alpha=0.45, zorder=4)
            axes.plot(
                x, [100 * bin_.accuracy for bin_ in bins], color=color, marker=marker, linewidth=1.8,
                markeredgecolor=PAPER, markeredgewidth=0.7, zorder=5, label=f"{model} alone",
            )  # fmt: skip
        lowest = min(100 * bin_.confidence for bins in binned.values() for bin_ in bins)
        axes.set_xlim(min(lowest - 2, 98), 100.5)
        axes.set_ylim(-3, 103)
        axes.set_xlabel("confidence: geometric mean of token probabilities (%)")
        axes.set_ylabel("chains right (%)")
        finish(axes)
        axes.legend(loc="lower right")
    return _svg(figure)


def _svg(figure: Figure) -> str:
    """A figure as an ``<svg>`` element that takes its width and its greys from the page around it.

    The page's style sheet sets ``--ink``, ``--muted``, ``--grid`` and ``--paper``.
    """
    from matplotlib import rc_context

    drawn = StringIO()
    with rc_context(PAGE.style):
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    svg = drawn.getvalue()
    svg = svg[svg.index("<svg") :]
    for name in ("width", "height"):
        svg = re.sub(rf'(<svg[^>]*?) {name}="[^"]*"', r"\1", svg, count=1)
    for name, color in {"ink": INK, "muted": MUTED, "grid": GRID, "paper": PAPER}.items():
        svg = svg.replace(color, f"var(--{name})")
    return svg


def _looks(routers: list[str]) -> dict[str, Look]:
    """A colour and a marker for every router; names in order, so that a router keeps its look."""
    others = sorted(router for router in routers if router != LEARNED)
    looks = {
        router: Look(COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)], 1.4, 0.08, 5)
        for i, router in enumerate(others)
    }
    return {router: HERO if router == LEARNED else looks[router] for router in routers}


def _draw_router(
    axes: Axes, summary: Summary, router: str, points: list[Point], look: Look, size: Size
) -> None:
    """A line with its 95% band, or a single marker with its 95% bar."""
    cost = [cost_percent(summary, point.cost) for point in points]
    low, high = zip(*([100 * end for end in point.accuracy_ci] for point in points), strict=True)
    width = look.width * size.lines
    if len(points) > 1:
        axes.fill_between(
            cost, low, high, color=look.color, alpha=look.band, linewidth=0, zorder=look.order - 4
        )
    else:
        axes.vlines(cost, low, high, color=look.color, linewidth=width, alpha=0.6, zorder=look.order - 1)
    apgr = metric(summary, router, "apgr")
    axes.plot(
        cost,
        [100 * point.accuracy for point in points],
        color=look.color,
        marker=look.marker,
        linewidth=width,
        markersize=(4 if len(points) > 1 else 6.5) * size.lines + width,
        markeredgecolor=PAPER,
        markeredgewidth=0.7 * size.lines,
        zorder=look.order,
        label=router if apgr is None else f"{router} ({apgr:.2f})",
    )


def _draw_oracle(axes: Axes, summary: Summary, size: Size) -> None:
    """What search with hindsight pays, where it was run."""
    oracle = summary.oracle
    if oracle:
        axes.plot(
            [100 * cost for cost in oracle.cost],
            [100 * accuracy for accuracy in oracle.accuracy],
            color=INK,
            linestyle=(0, (1, 2)),
            linewidth=1.4 * size.lines,
            zorder=3,
            label="oracle" if oracle.apgr is None else f"oracle ({oracle.apgr:.2f})",
        )


def _draw_models(axes: Axes, summary: Summary, groups: Mapping[str, list[Point]], size: Size) -> None:
    """A star for each model alone, and the line that mixing them question by question reaches."""
    stars = [
        (name, cost_percent(summary, groups[name][0].cost), 100 * groups[name][0].accuracy)
        for name in references(summary)
        if name in groups
    ]
    if len(stars) == 2:
        axes.plot(
            [cost for _, cost, _ in stars],
            [accuracy for _, _, accuracy in stars],
            color=MUTED,
            linestyle=(0, (4, 3)),
            linewidth=1.3 * size.lines,
            zorder=3,
            label="random mix of questions",
        )
    for name, cost, accuracy in stars:
        axes.plot(
            cost, accuracy, "*", color=INK, markersize=14 * size.lines, markeredgecolor=PAPER, zorder=12
        )
        left = cost < 50
        axes.annotate(
            f"{name} alone, {accuracy:.1f}%",
            (cost, accuracy),
            xytext=(9 * size.lines, -3) if left else (6 * size.lines, 9 * size.lines),
            textcoords="offset points",
            ha="left" if left else "right",
            va="top" if left else "bottom",
            fontsize=size.small,
            zorder=13,
        )
