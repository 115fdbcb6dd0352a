"""Numbers as people write them, in exact arithmetic."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

SIGNIFICANT_DIGITS = 6
"""Digits that a decimal must have to stand for a fraction that is no finite decimal."""
MAX_LENGTH = 200
"""Characters of a number that is read; and the largest exponent of ten."""

_SCALES = {
    "dozen": 12,
    "hundred": 100,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
_PLAIN = r"(?:\d{1,3}(?:,\d{3})+|\d+)"
_NUMBER = re.compile(
    r"(?P<sign>[+-]?) ?(?:(?:US|A|C|HK)?\\?\$|[€£¥₹]|(?:Rs\.?|USD|EUR|GBP) )? ?(?P<minus>-?) ?"
    rf"(?:(?:(?P<whole>\d+) *)?(?:\\frac *\{{ *(?P<over>-?\d+) *\}} *\{{ *(?P<under>-?\d+) *\}})"
    r"|(?:(?P<units>\d+) +)?(?P<top>\d+) ?/ ?(?P<bottom>\d+)"
    rf"|(?:(?P<decimal>{_PLAIN}(?:\.\d*)?|\.\d+)"
    r"(?:(?P<period>\\(?:overline|bar|dot)\s*\{\d+\}(?:\d*\\dot\s*\{\d\})?|\(\d+\)))?)"
    r"(?: ?(?:[eE]|(?:\\(?:times|cdot)|[x*]) ?10 ?\^) ?\{? ?(?P<exponent>[+-]?\d{1,3}) ?\}?)?"
    r"|(?P<ten>10) ?\^ ?\{? ?(?P<power>[+-]?\d{1,3}) ?\}?)"
    r"(?P<scale> (?:dozen|hundred|thousand|million|billion|trillion))?"
)
_BASED = re.compile(r"\(?(-?[0-9A-Fa-f.]+)\)?(?: ?_ ?[{(]{0,2} ?| base )(-?\d+|[a-z]+) ?[})]{0,2}")
_BASES = {
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "ten": "10",
}


@dataclass(frozen=True)
class Number:
    """An exact value; of a decimal, also how many significant digits and decimal places it was given with."""

    value: Fraction
    digits: int = 0
    places: int = 0

    def equals(self, other: Number) -> bool:
        """Exactly; or, where one side is a decimal and the other is endless, to the digits of the decimal."""
        if self.value == other.value:
            return True
        if (self.digits > 0) == (other.digits > 0):
            return False
        decimal, exact = (self, other) if self.digits else (other, self)
        return decimal.digits >= SIGNIFICANT_DIGITS and decimal._stands_for(exact.value)

    def times(self, factor: int | Fraction) -> Number:
        return Number(self.value * factor, self.digits, self.places)

    def _stands_for(self, value: Fraction) -> bool:
        """Whether an endless value, rounded or cut off, is written as this decimal."""
        if 10**400 % value.denominator == 0:
            return False
        scale = Fraction(10) ** self.places
        written, shifted = self.value * scale, value * scale
        return abs(written - shifted) <= Fraction(1, 2) or written == int(shifted)


def number(text: str) -> Number | None:
    r"""The number that a text is: ``-$1,200.50``, ``1 1/2``, ``0.1\overline{6}``, ``1.5e-3``, "5 million"."""
    match = _NUMBER.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if not match:
        return None
    bottom = int(match["under"] or match["bottom"] or 1)
    if not bottom:
        return None
    if match["decimal"]:
        size = _decimal(match)
    elif match["ten"]:
        size = Number(Fraction(10) ** int(match["power"]))
    else:
        whole, top = match["whole"] or match["units"], int(match["over"] or match["top"])
        size = Number(int(whole or 0) + Fraction(top, bottom))
    negative = (match["sign"] == "-") != (match["minus"] == "-")
    return size.times((-1 if negative else 1) * _SCALES.get((match["scale"] or "").strip(), 1))


def based(text: str) -> tuple[str, str] | None:
    """Digits and base of ``2516_8``."""
    match = _BASED.fullmatch(text)
    return (match[1].upper().lstrip("0") or "0", _BASES.get(match[2], match[2])) if match else None


def ratio(text: str) -> tuple[Fraction, ...] | None:
    """The parts of ``2:4:6`` as shares of their sum."""
    if not re.fullmatch(r"\d{1,9}(?: ?: ?\d{1,9})+", text):
        return None
    parts = [int(part) for part in text.split(":")]
    return tuple(Fraction(part, sum(parts) or 1) for part in parts)


def _decimal(match: re.Match[str]) -> Number:
    written = match["decimal"].replace(",", "")
    fraction = written.partition(".")[2]
    value, shift = Fraction(written.rstrip(".")), int(match["exponent"] or 0)
    if match["period"]:
        period = "".join(re.findall(r"\d", match["period"]))
        return Number(value + Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(fraction)))
    exact = value * Fraction(10) ** shift
    digits = len(written.replace(".", "").lstrip("0")) if fraction else 0
    return Number(exact, digits, len(fraction) - shift if fraction else 0)
