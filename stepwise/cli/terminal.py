"""Text of others on a terminal: what models and servers write must not steer it."""

from __future__ import annotations

import re

_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and line end, marks that turn the direction of writing, halves of pairs."""


def plain(text: str) -> str:
    """The text with U+FFFD for every character that would do something rather than be seen."""
    return _STEERING.sub("\ufffd", text)
