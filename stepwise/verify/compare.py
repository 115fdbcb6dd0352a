r"""Whether two answers are the same: a pipeline of rules, each of which decides or passes on.

Numbers, times, numerals with a base, choices and words are compared here, in exact arithmetic; what is left
is mathematics for a worker (`stepwise.verify.symbolic`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from stepwise.verify.clock import clock, same_time
from stepwise.verify.extract import marked
from stepwise.verify.latex import both_signs, modulus, spelt, wording
from stepwise.verify.numbers import Number, based, number, ratio
from stepwise.verify.statements import tidy
from stepwise.verify.symbolic import symbolic
from stepwise.verify.unicode import folded
from stepwise.verify.units import same_unit, split_unit

MAX_LENGTH = 10_000
"""Characters of an extracted answer; a longer one is wrong."""
MAX_EXPRESSION = 2_000
"""Characters of an expression that is understood; a longer one has to match as it is written."""
MAX_DEPTH = 30
"""Braces within braces of such an expression."""

_BOMB = re.compile(r"(?:\^|\*\*)[\s{(]*\d{5}|\d{5}\s*!|!\s*!|(?:(?:\^|\*\*)[\s{(]*\d+[\s)}]*){3}")
_CHOICE = re.compile(r"\(?([A-J])(?:\)|[.:)](?:\s.*)?|\)\s.*)", re.DOTALL)
_WORDS = re.compile(r"(?=.*[A-Za-z]{3})[A-Za-z][A-Za-z' ,.-]*")
_ARTICLE = re.compile(r"^(?:an?|the) (?=[a-z]{2})")


class Answer(NamedTuple):
    """One side of a comparison, as each rule wants to see it.

    Attributes:
        latex: in one spelling, without its unit.
        words: the same as plain text.
        unit: in one spelling, '' for none.
        whole: as plain text, with its unit.
        value: the number that it is, if it is one.
    """

    latex: str
    words: str
    unit: str
    whole: str
    value: Number | None


def equivalent(prediction: str, gold: str) -> bool:
    """Whether a predicted answer equals the gold answer; never raises for a strange string.

    Units, currency signs and thousands separators do not matter where only one side has them; a
    percentage equals both its number and its fraction. Sets are compared without order. Exact values are
    compared exactly; a decimal equals an endless value that it is the rounding of, to six digits or more.

    Raises:
        VerificationError: if no worker can be started (math-verify is not installed).
    """
    verdict = by_rules(prediction, gold)
    return symbolic(*verdict) if isinstance(verdict, tuple) else verdict


def rules_suffice(answer: str) -> bool:
    """Whether `equivalent` can be trusted when it says "wrong": not of sentences, nor of what is too long."""
    if len(answer) > MAX_EXPRESSION:
        return False
    side = _answer(tidy(answer))
    if side.value or _CHOICE.fullmatch(side.whole):
        return True
    words = re.findall(r"(?<![\\A-Za-z])[A-Za-z]{3,}", side.whole)
    return len(words) < 3 and not _hopeless(answer)


def by_rules(prediction: str, gold: str) -> bool | tuple[str, str]:
    """The verdict, or the two expressions that a worker has to compare."""
    given, wanted = (marked(side) or tidy(side) for side in (prediction, gold))
    longest = max(len(given), len(wanted))
    if not given or not wanted or longest > MAX_LENGTH:
        return False
    if longest > MAX_EXPRESSION:
        return _letters(folded(given)) == _letters(folded(wanted))
    a, b = _answer(given), _answer(wanted)
    for rule in RULES:
        if (verdict := rule(a, b)) is not None:
            return verdict
    return both_signs(a.latex), both_signs(b.latex)


def _answer(text: str) -> Answer:
    latex = tidy(spelt(text))
    body, unit = split_unit(latex)
    plain = wording(body)
    value = number(plain)
    if value is None and clock(wording(latex)):
        body, unit = latex, ""
    return Answer(body, plain, unit, wording(latex), value)


def _as_written(a: Answer, b: Answer) -> bool | None:
    return True if a.whole and _letters(a.whole) == _letters(b.whole) else None


def _choices(a: Answer, b: Answer) -> bool | None:
    """A letter, perhaps with what it stands for."""
    choice = _CHOICE.fullmatch(a.whole)
    return choice[1] == b.whole if choice and re.fullmatch("[A-J]", b.whole) else None


def _times(a: Answer, b: Answer) -> bool | None:
    """Times of day; without "am" or "pm" on either side they are ratios."""
    x, y = clock(a.whole), clock(b.whole)
    return same_time(x, y) if x and y and (x[3] or y[3]) else None


def _ratios(a: Answer, b: Answer) -> bool | None:
    x, y = ratio(a.whole), ratio(b.whole)
    return x == y if x and y else None


def _numerals(a: Answer, b: Answer) -> bool | None:
    """Numerals with a base: digits and base are the same; a base may be left out."""
    x, y = based(a.whole), based(b.whole)
    if x and y:
        return x == y
    if x or y:
        digits, other = (x[0], b.whole) if x else (y[0] if y else "", a.whole)
        return digits == other if re.fullmatch(r"-?[\dA-F.]+", other) else None
    return None


def _residues(a: Answer, b: Answer) -> bool | None:
    """Classes of a modulus, which may be left out."""
    (x, n), (y, m) = modulus(a.latex), modulus(b.latex)
    if not (n or m) or not re.fullmatch(r"-?\d+", x) or not re.fullmatch(r"-?\d+", y):
        return None
    if n and m:
        return n == m and (int(x) - int(y)) % max(int(n), 1) == 0
    return int(x) == int(y)


def _quantities(a: Answer, b: Answer) -> bool | None:
    """Numbers with their units; a percentage is its number or its fraction."""
    x, y = a.value, b.value
    if x is None or y is None:
        return None
    if a.unit == b.unit or "%" not in (a.unit, b.unit):
        return same_unit(a.unit, b.unit) and x.equals(y)
    percentage, other = (x, y) if a.unit == "%" else (y, x)
    plain = not (a.unit and b.unit)
    return plain and (percentage.equals(other) or percentage.equals(other.times(100)))


def _measures(a: Answer, b: Answer) -> bool | None:
    """Units that differ."""
    return None if same_unit(a.unit, b.unit) or "%" in (a.unit, b.unit) else False


def _words(a: Answer, b: Answer) -> bool | None:
    """Words are equal to the letter, but for an article and a plural."""
    if not (_WORDS.fullmatch(a.whole) or _WORDS.fullmatch(b.whole)):
        return None
    x, y = (_ARTICLE.sub("", side.whole.casefold()).removesuffix("s") for side in (a, b))
    return x == y


def _infinities(a: Answer, b: Answer) -> bool | None:
    """Infinity against a finite value, which numerical comparison can take for equal; ``x > 3`` has none."""
    finite = [side.latex for side in (a, b) if r"\infty" not in side.latex]
    relation = r"[<>]|\\(?:le|ge|lt|gt|neq?|mathbb)"
    return False if len(finite) == 1 and not re.search(relation, finite[0]) else None


def _limits(a: Answer, b: Answer) -> bool | None:
    """What no worker should be asked."""
    return False if _hopeless(a.latex) or _hopeless(b.latex) else None


RULES: tuple[Callable[[Answer, Answer], bool | None], ...] = (
    _as_written, _choices, _times, _ratios, _numerals, _residues, _quantities, _measures, _words,
    _infinities, _limits,
)  # fmt: skip


def _letters(text: str) -> str:
    return re.sub(r"\s", "", text).casefold()


def _hopeless(answer: str) -> bool:
    """What would keep a worker busy until its time limit: nests, towers of exponents, vast factorials."""
    depth = deepest = 0
    for brace in re.findall(r"(?<!\\)[{}]", answer):
        depth += 1 if brace == "{" else -1
        deepest = max(deepest, depth)
        if depth < 0:
            break
    return len(answer) > MAX_EXPRESSION or depth != 0 or deepest > MAX_DEPTH or bool(_BOMB.search(answer))
