r"""Answers in ``\boxed{...}``."""

from __future__ import annotations

import re
from typing import NamedTuple

_BRACE = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_BARE = re.compile(r"\\(?:boxed|fbox)\s*(-?\d[\d.,]*\d|-?\d|[A-Za-z](?![A-Za-z]))")
_JOINT = re.compile(
    r"(?:[\s$.,;&]"
    r"|\\[\[\](),;: ]|\\q?quad(?![a-z])|\\text\s*\{\s*(?:and|or)?\s*\}|\b(?:and|or)\b|\b[a-zA-Z]\w?\s*=)*"
)
_LONGEST_JOINT = 60  # characters between two boxes that are one answer
_LONGEST_OPEN = 500  # characters of a box that is never closed


class Box(NamedTuple):
    """Where a box begins and ends, and what stands in it."""

    start: int
    end: int
    content: str


def last_boxes(text: str) -> list[Box]:
    """The last box of a text, with those before it that belong to it ("... and ...", a comma between).

    Of boxes in boxes the innermost count; a box that is never closed counts where none is.
    """
    if "box" not in text:
        return []
    boxes, opened = _closed(text)
    boxes += [Box(match.start(), match.end(), match[1]) for match in _BARE.finditer(text)]
    boxes.sort()
    if not boxes:
        return [_open_end(text, *opened)] if opened else []
    group = [boxes.pop()]
    while boxes and _joined(text[boxes[-1].end : group[0].start]):
        group.insert(0, boxes.pop())
    return group


def _closed(text: str) -> tuple[list[Box], tuple[int, int] | None]:
    """All boxes without a box inside, and start and content of the last that is not closed."""
    boxes: list[Box] = []
    opened: list[tuple[int, int]] = []  # start of the box (-1 for a mere brace), start of its content
    for match in _BRACE.finditer(text):
        token = match[0]
        if token == "}" and opened:
            start, inside = opened.pop()
            if start >= 0 and not (boxes and boxes[-1].start > start):
                boxes.append(Box(start, match.end(), text[inside : match.start()]))
        elif token == "{" or len(token) > 2:
            opened.append((match.start() if len(token) > 1 else -1, match.end()))
    return boxes, next(((start, inside) for start, inside in reversed(opened) if start >= 0), None)


def _open_end(text: str, start: int, inside: int) -> Box:
    r"""A box that is cut off, or whose brace was forgotten: up to the line's end or the ``$``."""
    content = re.split(r"[\n$]", text[inside : inside + _LONGEST_OPEN], maxsplit=1)[0]
    missing = content.count("{") - content.count("}")
    return Box(start, inside + len(content), content + "}" * missing)


def _joined(between: str) -> bool:
    words = len(between) <= _LONGEST_JOINT and _JOINT.fullmatch(between)
    return bool(words and re.search(r"and|or|[,;]", between))
