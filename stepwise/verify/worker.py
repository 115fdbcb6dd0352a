"""The program of a worker: pairs of LaTeX answers in, verdicts out, one line of JSON each.

`math-verify` parses and knows how sets, intervals, relations and matrices compare. Numbers are compared here:
exactly where both sides are exact, and to its digits where one side is a decimal. The file imports nothing
of stepwise and is run by its path, so that a worker starts quickly.
"""

from __future__ import annotations

import json
import logging
import resource
import signal
import sys
from contextlib import suppress
from typing import Any

import sympy
from math_verify import LatexExtractionConfig, grader, parse, verify
from math_verify.parser import NormalizationConfig
from sympy.core.relational import Relational

SIGNIFICANT_DIGITS = 6
"""Digits that a decimal must have to stand for an exact value that is no finite decimal."""
PRECISION = 50
"""Digits to which two exact values are computed where they cannot be compared symbolically."""
MOST = 2_000
"""Digits that are computed for that where large terms cancel."""

_SPELLING = NormalizationConfig(basic_latex=True, units=False, malformed_operators=True, nits=True)
_OPTIONS: dict[str, Any] = {
    "fallback_mode": "no_fallback",
    "parsing_timeout": None,
    "extraction_config": [LatexExtractionConfig(normalization_config=_SPELLING)],
}


def serve(time_limit_s: int, clock_limit_s: int, memory_limit: int) -> None:
    """Answer until the input ends; the operating system ends a worker that takes longer than the limits, of
    the processor's time and by the clock."""
    replies, sys.stdout = sys.stdout, sys.stderr
    logging.disable()
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (memory_limit, memory_limit))
    grader.sympy_numeric_eq = same_number
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, time_limit_s)
        signal.alarm(clock_limit_s)
        verdict = False
        with suppress(Exception):
            prediction, gold = json.loads(line)
            verdict = same(prediction, gold)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        print(json.dumps(verdict), file=replies, flush=True)


def same(prediction: str, gold: str) -> bool:
    """Whether two LaTeX expressions are the same value, set, relation or matrix."""
    given, wanted = _parsed(prediction), _parsed(gold)
    if given and wanted:
        given, wanted = [_like(given[0], wanted[0], prediction)], [_like(wanted[0], given[0], gold)]
    return bool(verify(wanted, given, timeout_seconds=None, allow_set_relation_comp=True))


def _parsed(answer: str) -> list[Any]:
    """What the answer means, in a list of its own; an empty one if it means nothing."""
    values = [_named(value) for value in parse(f"${answer}$", **_OPTIONS)]
    return [] if _turned_round(values, answer) else values


def _like(value: Any, other: Any, answer: str) -> Any:
    """A value in the form of the other side: conditions as the region that they describe, a column or row
    as a tuple."""
    if isinstance(other, sympy.Set) and not isinstance(other, sympy.FiniteSet) and _conditions(value):
        excluded = all(isinstance(part, sympy.Ne) for part in value.args)
        join = sympy.Intersection if excluded or "and" in answer else sympy.Union
        return join(*(part.as_set() for part in value.args))
    if isinstance(value, sympy.MatrixBase) and 1 in value.shape:
        return sympy.Tuple(*value) if isinstance(other, sympy.Tuple | sympy.Interval) else value
    return value


def _conditions(value: Any) -> bool:
    """Whether this is several inequalities for one variable."""
    return (
        isinstance(value, sympy.FiniteSet)
        and len(value.free_symbols) == 1
        and all(isinstance(part, Relational) and not isinstance(part, sympy.Eq) for part in value.args)
    )


def same_number(a: Any, b: Any, float_rounding: int = 0, numeric_precision: int = 0) -> bool:
    """In the place of math-verify's comparison, which takes all within 5e-7 of each other for equal."""
    if isinstance(a, sympy.MatrixBase) and isinstance(b, sympy.MatrixBase):
        entries = zip(a.flat(), b.flat(), strict=False)
        return a.shape == b.shape and all(grader.sympy_expr_eq(x, y, 0, 0) for x, y in entries)
    percent = [grader.get_pct_val(value) for value in (a, b)]
    if (percent[0] is None) != (percent[1] is None):
        without = [value if part is None else part for value, part in zip((a, b), percent, strict=True)]
        return _same_value(*without) or _same_value(a, b)
    return _same_value(a, b)


def _same_value(a: Any, b: Any) -> bool:
    """Exactly; or, where one of them is a decimal, to its digits."""
    decimal = [isinstance(value, sympy.Float) for value in (a, b)]
    x, y = (_exact(grader.safe_sympy_doit(value)) for value in (a, b))
    if not (isinstance(x, sympy.Expr) and isinstance(y, sympy.Expr)) or x.free_symbols or y.free_symbols:
        return False
    if _equal(x, y):
        return True
    return decimal[0] != decimal[1] and (_stands_for(x, y) if decimal[0] else _stands_for(y, x))


def _equal(x: sympy.Expr, y: sympy.Expr) -> bool:
    if x.is_Rational and y.is_Rational:
        return bool(x == y)
    sizes = [abs(value.evalf(15, maxn=MOST)) for value in (x, y)]
    if not all(size.is_finite for size in sizes):
        return bool(x == y and x.is_extended_real)
    difference, scale = (x - y).evalf(PRECISION, maxn=MOST), max(sizes)
    return bool(abs(difference) <= scale * sympy.Float(10) ** (10 - PRECISION))


def _stands_for(decimal: sympy.Expr, value: sympy.Expr) -> bool:
    """Whether an endless value, rounded or cut off, is written as this decimal."""
    if (value.is_Rational and _finite(value)) or not value.is_real:
        return False
    places = next(n for n in range(400) if (decimal * 10**n).is_Integer)
    written, shifted = decimal * 10**places, value * 10**places
    cut = sympy.sign(value) * sympy.floor(abs(shifted))
    enough = len(str(abs(written))) >= SIGNIFICANT_DIGITS
    return bool(enough and (written == cut or abs(written - shifted) <= sympy.Rational(1, 2)))


def _finite(value: sympy.Expr) -> bool:
    """Whether a fraction is a finite decimal."""
    return bool(10**400 % value.q == 0)


def _exact(value: Any) -> Any:
    """With every decimal as the fraction that it is written as."""
    return value.replace(lambda part: isinstance(part, sympy.Float), lambda part: sympy.Rational(str(part)))


def _named(value: Any) -> Any:
    """With one meaning for each letter: i is the imaginary unit, the others are real."""
    letters = {
        letter: sympy.I if letter.name == "i" else sympy.Symbol(letter.name, real=True)
        for letter in getattr(value, "free_symbols", ())
    }
    return value.subs(letters, simultaneous=True) if letters else value


def _turned_round(values: list[Any], formula: str) -> bool:
    """Whether this is an interval with its ends the wrong way round: sympy takes it for the empty set, and
    so any two of them for equal."""
    empty = bool(values) and values[0] == sympy.EmptySet
    return empty and not any(sign in formula for sign in (r"\emptyset", r"\{\}"))


if __name__ == "__main__":
    serve(*map(int, sys.argv[1:]))
