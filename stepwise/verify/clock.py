"""Times of day."""

from __future__ import annotations

import re

_TIME = re.compile(
    r"(?P<hour>\d{1,2})(?::(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d))?)? ?(?P<half>[ap]\.? ?m\.?)?",
    re.IGNORECASE,
)


def clock(text: str) -> tuple[int, int, int, str] | None:
    """Hour, minute, second and half of the day ('' if it is not said) of "4:30 p.m."."""
    match = _TIME.fullmatch(text)
    if not match or not (match["half"] or match["minute"]) or int(match["hour"]) > 24:
        return None
    half = (match["half"] or "")[:1].lower()
    return int(match["hour"]), int(match["minute"] or 0), int(match["second"] or 0), half


def same_time(a: tuple[int, int, int, str], b: tuple[int, int, int, str]) -> bool:
    """Whether two times agree: a half of the day counts where both name it, or the other has 24 hours."""
    if a[3] and b[3]:
        return _of_day(a) == _of_day(b)
    return a[:3] == b[:3] or _of_day(a)[:3] == _of_day(b)[:3]


def _of_day(time: tuple[int, int, int, str]) -> tuple[int, int, int]:
    hour, minute, second, half = time
    return (hour % 12 + 12 * (half == "p") if half else hour), minute, second
