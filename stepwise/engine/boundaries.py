"""Where a step of a text ends: text alone, whoever wrote it and however it is run.

- A step ends with its separator. A blank line (the separator ``"\n\n"``) may hold blanks, tabs and carriage
  returns.
- A step has text: blank lines at its beginning are its own, and end nothing.
- Past ``sentences_after`` characters a step also ends with a line or with a sentence.
- A step that is too long ends with its last line, or where it is cut if it has one line only (``at_limit``).

A model writes tokens, so a step ends with the token that completes its boundary. Servers only know strings
that end a generation: `Boundaries.strings` are those that they can be told, and what they write is cut
once more when it comes back (`Boundaries.cut`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from stepwise.types import Finish

BLANK_LINE = "\n\n"
BLANKS = " \t\r"
BLANK_LINES = (BLANK_LINE, "\n   \n", "\n  \n", "\r\n\r\n")
"""What blank lines look like, the most frequent first. Four, because some servers take no more."""

SENTENCE = re.compile(r"""(?:[^\W\d_]{2}|[)\]]|\S\$)[.!?]["')\]]*\s*\Z""")
"""The end of a sentence, told by what precedes it: numbers ("3.14") and initials do not end one. A step that
ends at an abbreviation costs no more than a decision."""
SEEN = 16
"""Characters before a token that `SENTENCE` can depend on, and more."""

CLOSED_BOX = "\\boxed{}"
"""Among the strings that end an answer: a box with anything in it, closed."""


@dataclass(frozen=True, slots=True)
class Boundaries:
    """Where the first step of a text ends.

    Attributes:
        separators: each of them ends a step and belongs to it.
        sentences_after: characters from which on a line or a sentence also ends the step; None for never.
        at_limit: a generation that reaches its limit ends the step with its last line.
        begun: what the step has already.
    """

    separators: tuple[str, ...]
    sentences_after: int | None = None
    at_limit: bool = False
    begun: str = ""

    @property
    def strings(self) -> tuple[str, ...]:
        """For a server that only knows strings which end a generation."""
        return tuple(s for each in self.separators for s in (BLANK_LINES if each == BLANK_LINE else (each,)))

    @property
    def mark(self) -> str:
        """A token without this in its text completes no boundary; empty if any may."""
        lines = len(self.separators) == 1 and self.sentences_after is None
        return self.separators[0][-1] if lines else ""

    def scan(self) -> Scanner:
        """Reads the text behind ``begun``."""
        return Scanner(self)

    def cut(self, pieces: Iterable[str], finish: Finish, limit: int) -> tuple[int, Finish]:
        """How many of a generation's pieces belong to the step, and how the step ended.

        Args:
            pieces: texts of the tokens, without an end-of-sequence token's.
            finish: how the generation ended.
            limit: tokens that it was allowed.
        """
        scanner = self.scan()
        for piece in pieces:
            if scanner.read(piece):
                return scanner.pieces, "stop"
        return scanner.close(finish, limit)

    def steps(self, pieces: Sequence[str], limit: int) -> Iterator[Sequence[str]]:
        """A whole text's steps, each of at most ``limit`` pieces."""
        start = 0
        while start < len(pieces):
            ahead = pieces[start : start + limit]
            count, _ = self.cut(ahead, "length" if len(ahead) == limit else "end", limit)
            yield ahead[:count]
            start += count


class Scanner:
    """Reads a text piece by piece, in time proportional to it.

    Attributes:
        pieces: how many it has read.
        line: how many of them there are up to the last line end that follows some text; 0 for none.
        text: whether there has been anything but blanks.
    """

    def __init__(self, boundaries: Boundaries) -> None:
        self._boundaries = boundaries
        self._pattern, self._seen = _pattern(boundaries.separators)
        self._tail = ""
        self._length = self.pieces = self.line = 0
        self.text = False
        self.read(boundaries.begun)
        self.pieces = self.line = 0

    def read(self, piece: str) -> bool:
        """Whether the piece completes the step's boundary."""
        self.pieces += 1
        self._length += len(piece)
        known, tail = self.text, self._tail + piece
        start = 0 if known else len(tail) - len(tail.lstrip())
        self.text = known or start < len(tail)
        tail = tail[start:] if self.text else tail
        self._tail = self._kept(tail)
        if not self.text:
            return False
        line = "\n" in (piece if known else tail)
        if line:
            self.line = self.pieces
        return self._pattern.search(tail) is not None or self._long_enough(tail, line)

    @property
    def certain(self) -> int:
        """How many pieces are the step's whatever follows: the limit may yet cut it at its last line."""
        return self.line if self._boundaries.at_limit and self.line else self.pieces

    def close(self, finish: Finish, limit: int) -> tuple[int, Finish]:
        """What `Boundaries.cut` says of a generation that ended here, without a boundary."""
        if finish == "length" and self._boundaries.at_limit and self.pieces >= limit:
            return self.line or self.pieces, "stop"
        return self.pieces, "length" if finish == "stop" and not self.text else finish

    def _long_enough(self, tail: str, line: bool) -> bool:
        after = self._boundaries.sentences_after
        return after is not None and self._length >= after and (line or SENTENCE.search(tail) is not None)

    def _kept(self, tail: str) -> str:
        """The end of the text, as far as a boundary may begin in it: an open blank line may be long."""
        kept = tail[-self._seen :]
        line = tail.rstrip(BLANKS)
        return "\n" if len(line) < len(tail) - self._seen and line.endswith("\n") else kept


def ends_answer(text: str, stops: Collection[str]) -> bool:
    """Whether a step contains one of the strings that end an answer. One that begins with a line end also
    counts at the step's beginning, and ``\\boxed{}`` stands for a closed box with anything in it."""
    lines = "\n" + text
    return any(closed_box(text) if stop == CLOSED_BOX else stop in lines for stop in stops)


def closed_box(text: str) -> bool:
    """Whether a text has a ``\\boxed{...}`` whose braces are balanced."""
    return any(_closes(text, box.end()) for box in re.finditer(r"\\boxed\s*\{", text))


def _closes(text: str, start: int) -> bool:
    depth = 1
    for brace in re.finditer(r"\\.|[{}]", text[start:], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if not depth:
            return True
    return False


@lru_cache(maxsize=64)
def _pattern(separators: tuple[str, ...]) -> tuple[re.Pattern[str], int]:
    """Finds a separator; and how many characters before a token it has to see."""
    kinds = [rf"\n[{BLANKS}]*\n" if each == BLANK_LINE else re.escape(each) for each in separators]
    return re.compile("|".join(kinds) or r"(?!)"), max(SEEN, *map(len, separators), 0)
