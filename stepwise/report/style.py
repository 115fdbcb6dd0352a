"""How every figure looks: colours that colour-blind readers tell apart, and two sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, GRID, PAPER = "#1d2129", "#6c727d", "#dfe2e7", "#fefefe"
STYLE: dict[Any, Any] = {
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "font.family": "sans-serif",
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "legend.edgecolor": PAPER,
    "legend.framealpha": 0.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "stepwise",
}


class Size(NamedTuple):
    """How large a figure is drawn.

    Attributes:
        width: inches.
        text: of labels, in points.
        small: of notes and legends, in points.
        lines: widths and markers, in units of the page's.
    """

    width: float
    text: float
    small: float
    lines: float

    @property
    def style(self) -> dict[Any, Any]:
        """What matplotlib is told."""
        return STYLE | {
            "font.size": self.text,
            "legend.fontsize": self.small,
            "legend.title_fontsize": self.small,
            "xtick.labelsize": self.small,
            "ytick.labelsize": self.small,
            "grid.linewidth": 0.7 * self.lines,
            "axes.linewidth": 0.8 * self.lines,
            "lines.linewidth": 1.8 * self.lines,
            "lines.markersize": 6 * self.lines,
        }


PAGE = Size(5.7, 9.5, 8.5, 1.0)
COLUMN = Size(3.3, 7.5, 7.0, 0.62)  # of a paper with two: printed as it is, no text is below 7 points
DOTS = 300  # per inch, of pictures


class Look(NamedTuple):
    """How one router's line is drawn."""

    color: str
    marker: str
    width: float
    band: float  # opacity of the 95% band
    order: int


HERO = Look("#d55e00", "o", 2.6, 0.20, 10)
# Okabe and Ito's palette with a darker green and a lighter purple: without green cones they were one grey.
COLORS = ("#0072b2", "#008a64", "#d98cb9", "#e69f00", "#56b4e9", "#8b6d3f")
MARKERS = ("s", "^", "D", "v", "P", "X", "<")  # a different number, so that pairs repeat late


def finish(axes: Axes) -> None:
    """A grid behind the lines, and no ticks."""
    axes.grid(True)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, which="both")
