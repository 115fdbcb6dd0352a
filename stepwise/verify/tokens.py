r"""What counts as an expression in a chain's text: numbers, times, ratios, pairs and mathematics.

Every rule of extraction reads text with this one tokenizer, so that "4:30 p.m.", "3:4", "(2, 5)" and
``$x=3$`` are one expression wherever they stand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_DIGITS = r"(?:\d{1,3}(?:(?:,|\{,\}| )\d{3})+(?![\d/])|\d+)(?:\.\d+)?|(?<![\w.)])\.\d+"
_POWER_OF_TEN = r"[eE][+-]?\d+\b|\s?(?:x|\*|×|\\times|\\cdot)\s?10\s?\^\s?(?:\{[+-]?\d+\}|[+-]?\d+)"
_FACTOR = r"\s?(?:\\pi(?![a-z])|π|√\d+|\\sqrt\{\d+\})| (?:thousand|million|billion|trillion)\b"
_NUMBER = (
    rf"(?:(?<![\w)])-)?[$€£¥₹]?(?:\d+ \d+/\d+|(?:{_DIGITS})(?:/\d+)?)(?:{_POWER_OF_TEN})?(?:{_FACTOR})?%?"
)
_BOUND = r"-?(?:\d+(?:\.\d+)?(?:/\d+)?|\\infty|∞|\\frac\{\d+\}\{\d+\}|[a-z])"
_MATH = (
    r"\\\((?P<inline>(?:[^\\\n]|\\[^()\n])+)\\\)|\\\[(?P<display>(?:[^\\]|\\[^\[\]])+)\\\]"
    r"|\$\$(?P<centred>[^$]+)\$\$"
    r"|\$(?!\s)(?P<dollars>(?:[^$\n]*[\\=^_{}][^$\n]*|(?:(?![A-Za-z]{3})[^$\n])+))\$(?!\d)"
)
_EXPRESSION = re.compile(
    rf"\*\*(?P<bold>[^*\n]+)\*\*|{_MATH}"
    rf"|(?P<pair>[(\[]\s*{_BOUND}(?:\s*,\s*{_BOUND})+\s*[)\]])"
    r"|(?P<time>\b\d{1,2}:[0-5]\d(?:\s?[aApP]\.?[mM]\b\.?)?(?![\d:]))"
    r"|(?P<ratio>\b\d+(?::\d+| : \d+)+)"
    rf"|(?P<number>{_NUMBER})"
)
_MATH_SPAN = re.compile(_MATH)
_NUMBER_ONLY = re.compile(_NUMBER)


def expressions(line: str) -> Iterator[tuple[str, str]]:
    """The expressions of a line in order: their kind, and what is written."""
    for match in _EXPRESSION.finditer(line):
        kind = match.lastgroup or ""
        yield kind, match[kind]


def leading(text: str) -> tuple[str, str] | None:
    """The expression that a text begins with, and its kind."""
    match = _EXPRESSION.match(text)
    return (match.lastgroup or "", match[0]) if match else None


def last_number(text: str) -> str:
    """The last number in a text, as it is written; "" if there is none."""
    number = ""
    for match in _NUMBER_ONLY.finditer(text):
        number = match[0]
    return number


def without_delimiters(text: str) -> str:
    r"""Text and mathematics without ``$``, ``\(`` and ``\[`` around the latter."""
    return _MATH_SPAN.sub(lambda match: match[match.lastgroup or 0], text)


def masked(text: str) -> str:
    """The text, of the same length, with its mathematics blotted out: for rules on punctuation and words."""
    return _MATH_SPAN.sub(lambda match: "0" * len(match[0]), text)
