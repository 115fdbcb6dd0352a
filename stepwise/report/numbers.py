"""Numbers as a reader sees them in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

NOTHING_CHEAPER = "no setting costs less than the large model alone"
NOTHING_GAINED = "the large model alone is not better than the small one"
"""Why a router has no APGR."""


def with_interval(value: float | None, interval: Sequence[float | None]) -> str:
    """A number and its interval to three digits, "0.462 (0.398 to 0.548)"; a dash where it is undefined."""
    if value is None:
        return "–"
    low, high = interval
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ({low:.3f} to {high:.3f})"
