r"""Whether two answers are the same, in exact arithmetic where that is possible."""

from __future__ import annotations

import asyncio
import re
from fractions import Fraction

from stepwise.verify.extract import marked, tidy
from stepwise.verify.symbolic import symbolic, threads

MAX_LENGTH = 10_000
"""Characters of an extracted answer; a longer one is wrong."""

MAX_AT_ONCE = 200
"""Characters of an answer that `verify` compares without leaving the event loop."""
MAX_EXPRESSION = 2_000
"""Characters of an expression that is compared symbolically; a longer one has to match as it is written."""
MAX_DEPTH = 30
"""Braces within braces of such an expression."""

_BOMB = re.compile(r"(?:\^|\*\*)[\s{(]*\d{5}|\d{5}\s*!|!\s*!|(?:(?:\^|\*\*)[\s{(]*\d+[\s)}]*){3}")
_SPELLINGS = (
    (r"\\(?:text|textbf|textit|mathrm|mathbf|mbox)\s*\{([^{}]*)\}", r" \1 "),
    (r"\\[dt]frac", r"\\frac"),
    (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
    (r"\\frac\s*\{(\d+)\}\s*\{(\d+)\}", r" \1/\2 "),
    (r"(?:\^\s*\{?\\circ\}?|\\degree|°)(?:\s*(?:[CF]\b|\\(?:text|mathrm)\s*\{\s*[CF]\s*\}))?", ""),
    (r"\\left\b|\\right\b|\\!", ""),
    (r"\{,\}", ","),
    (r"\\([%$])", r"\1"),
    (r"[\u2012-\u2015\u2212]", "-"),
    (r"(?:\\[,;: ]|~|\s)+", " "),
)
_QUANTITY = re.compile(
    r"(?P<sign>[+-]?) ?[$€£¥₹]? ?(?P<minus>-?)"
    r"(?:(?:(?P<whole>\d+) +)?(?P<top>\d+) ?/ ?(?P<bottom>\d+)"
    r"|(?P<decimal>(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+))"
    r"(?P<unit> ?%| +[A-Za-z][A-Za-z./' -]*(?:\^?\{?[23]\}?)?"
    r"|/(?:year|month|week|day|hour|hr|min|second|sec|s|h)\b|(?:[cmk]m|k?g|m[lL]|lbs?|hrs?|th|st|nd|rd)\b"
    r"| ?[$€£¥₹])?"
)
_NOT_A_UNIT = re.compile(
    r"(pi|sqrt|log|ln|sin|cos|tan|exp|or|and|to|by|over|times (?!as )|plus|minus|mod|choose|factorial"
    r"|squared|cubed|hundred|thousand|million|billion|trillion|dozen|[abcdefiknopqrtuxyz])\b"
)
_SYMBOLS = {
    "−–": "-", "×": r"\times ", "·": r"\cdot ", "÷": "/", "π": r"\pi ", "∞": r"\infty ", "θ": r"\theta ",
    "±": r"\pm ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ",
    "∅": r"\emptyset ", "²": "^2", "³": "^3", "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}",
    "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}",
}  # fmt: skip
_UNICODE = str.maketrans({symbol: latex for symbols, latex in _SYMBOLS.items() for symbol in symbols})
_ROOT = re.compile(r"√\s*(?:\(([^()]*)\)|\{([^{}]*)\}|(\d+|[A-Za-z]))")
_CHOICE = re.compile(r"\(?([A-J])(?:\)|[.:)](?:\s.*)?|\)\s.*)", re.DOTALL)
_WORDS = re.compile(r"(?=.*[A-Za-z]{3})[A-Za-z][A-Za-z' ,.-]*")


def equivalent(prediction: str, gold: str) -> bool:
    """Whether a predicted answer equals the gold answer; never raises for a strange string.

    Units, currency signs and thousands separators do not matter where only one side has them; a
    percentage equals both its number and its fraction. Sets are compared without order.

    Raises:
        VerificationError: if no worker can be started (math-verify is not installed).
    """
    verdict = _by_rules(prediction, gold)
    return symbolic(*verdict) if isinstance(verdict, tuple) else verdict


async def verify(prediction: str, gold: str) -> bool:
    """As `equivalent`, without ever holding up the event loop: whatever may take long is done in a thread.

    Raises:
        VerificationError: if no worker can be started (math-verify is not installed).
    """
    loop = asyncio.get_running_loop()
    if max(len(prediction), len(gold)) > MAX_AT_ONCE:
        return await loop.run_in_executor(threads(), equivalent, prediction, gold)
    verdict = _by_rules(prediction, gold)
    if isinstance(verdict, tuple):
        return await loop.run_in_executor(threads(), symbolic, *verdict)
    return verdict


def _by_rules(prediction: str, gold: str) -> bool | tuple[str, str]:
    """The verdict, or the two expressions that a worker has to compare."""
    given, wanted = (_latex(marked(side) or tidy(side)) for side in (prediction, gold))
    if not given or not wanted or max(len(given), len(wanted)) > MAX_LENGTH:
        return False
    a, b = _plain(given), _plain(wanted)
    if a and a.replace(" ", "").casefold() == b.replace(" ", "").casefold():
        return True
    choice = _CHOICE.fullmatch(a)
    if choice and re.fullmatch("[A-J]", b):
        return choice[1] == b
    x, y = _quantity(a), _quantity(b)
    if x and y:
        return _same_quantity(x, y)
    if _WORDS.fullmatch(a) or _WORDS.fullmatch(b):
        return False
    if _infinite_and_finite(given, wanted) or _hopeless(given) or _hopeless(wanted):
        return False
    return given, wanted


def _infinite_and_finite(a: str, b: str) -> bool:
    """Infinity against a finite value, which numerical comparison can take for equal; ``x > 3`` has none."""
    finite = [side for side in (a, b) if r"\infty" not in side]
    return len(finite) == 1 and not re.search(r"[<>]|\\(?:le|ge|lt|gt|neq?|mathbb)", finite[0])


def rules_suffice(answer: str) -> bool:
    """Whether `equivalent` can be trusted when it says "wrong": not of sentences, nor of what is too long."""
    plain = _plain(_latex(tidy(answer)))
    if _quantity(plain) or _CHOICE.fullmatch(plain):
        return True
    words = re.findall(r"(?<![\\A-Za-z])[A-Za-z]{3,}", plain)
    return len(words) < 3 and not _hopeless(answer)


def _hopeless(answer: str) -> bool:
    """What would keep a worker busy until its time limit: nests, towers of exponents, vast factorials."""
    depth = deepest = 0
    for brace in re.findall(r"(?<!\\)[{}]", answer):
        depth += 1 if brace == "{" else -1
        deepest = max(deepest, depth)
        if depth < 0:
            break
    return len(answer) > MAX_EXPRESSION or depth != 0 or deepest > MAX_DEPTH or bool(_BOMB.search(answer))


def _latex(answer: str) -> str:
    """Unicode's mathematics as LaTeX writes it."""
    if answer.isascii():
        return answer
    return _ROOT.sub(lambda root: rf"\sqrt{{{root[1] or root[2] or root[3]}}}", answer).translate(_UNICODE)


def _plain(answer: str) -> str:
    """One spelling for what LaTeX and Unicode can spell in several ways."""
    for pattern, replacement in _SPELLINGS:
        answer = re.sub(pattern, replacement, answer)
    answer = answer.strip().rstrip(".")
    choice = re.fullmatch(r"\(?([A-Za-z])\)", answer)
    return choice[1] if choice else answer


def _quantity(plain: str) -> tuple[Fraction, str] | None:
    """(value, unit) of a number as people write it, e.g. "-$1,200.50", "1 1/2 cups", "40%"."""
    match = _QUANTITY.fullmatch(plain) if len(plain) <= 200 else None
    if not match or (match["bottom"] and not int(match["bottom"])):
        return None
    unit = (match["unit"] or "").strip().lower().rstrip(".")
    if _NOT_A_UNIT.match(unit):
        return None
    if match["decimal"]:
        value = Fraction(match["decimal"].replace(",", "").rstrip("."))
    else:
        value = int(match["whole"] or 0) + Fraction(int(match["top"]), int(match["bottom"]))
    negative = (match["sign"] == "-") != (match["minus"] == "-")
    return -value if negative else value, "%" if unit in ("percent", "percentage") else unit


def _same_quantity(a: tuple[Fraction, str], b: tuple[Fraction, str]) -> bool:
    """Equal; or, where one has no finite decimal expansion (1/3), equal to six decimals."""
    (x, unit), (y, other) = sorted((a, b), key=lambda quantity: quantity[1] != "%")
    if unit == "%" != other:
        return x in (y, 100 * y)
    endless = any(10**400 % value.denominator for value in (x, y))
    same_unit = not unit or not other or unit.rstrip("s") == other.rstrip("s")
    return same_unit and (x == y or (endless and abs(x - y) <= Fraction(5, 10**7)))
