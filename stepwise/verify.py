r"""Whether an answer is right: find it in a text, and compare it with the gold answer.

Numbers and words are compared here, in exact arithmetic. What is left (LaTeX, sets, intervals,
matrices) goes to `math-verify` in a worker, because ``9^{9^{9^9}}`` can keep it busy for hours: the
worker has the operating system end it after `TIME_LIMIT_S`, whatever code is running. Workers are
programs of their own (no fork, no ``__main__`` guard) and are replaced when they die.
"""

from __future__ import annotations

import json
import logging
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from fractions import Fraction
from importlib import import_module

from stepwise.errors import VerificationError

MAX_LENGTH = 10_000
"""Characters of an extracted answer; a longer one is wrong."""
TIME_LIMIT_S = 5
"""Seconds that a symbolic comparison may take; then the answer counts as wrong."""
MEMORY_LIMIT = 4 << 30
"""Bytes of address space of a worker (Linux)."""
WORKERS = min(4, os.cpu_count() or 1)
"""Symbolic comparisons that run side by side."""

_BRACE = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_HASHES = re.compile(r"####[ \t]*(\S[^\n]*)")
_PHRASE = re.compile(r"\banswer\b(?:\s+is|\s*[:=])[\s:=*]*([^\s:=*][^\n]*)", re.IGNORECASE)
_SENTENCE_END = re.compile(r"\.(?:\s|$)")
_NUMBER = re.compile(r"(?:(?<![\w)])-)?\$?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:/\d+)?%?")

_SPELLINGS = (
    (r"\\(?:text|textbf|textit|mathrm|mathbf|mbox)\s*\{([^{}]*)\}", r" \1 "),
    (r"\\[dt]frac", r"\\frac"),
    (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
    (r"\\frac\s*\{(\d+)\}\s*\{(\d+)\}", r" \1/\2 "),
    (r"\^\s*\{?\\circ\}?|\\degree|°|\\left\b|\\right\b|\\!", ""),
    (r"\{,\}", ","),
    (r"\\([%$])", r"\1"),
    (r"[\u2012-\u2015\u2212]", "-"),
    (r"(?:\\[,;: ]|~|\s)+", " "),
)
_QUANTITY = re.compile(
    r"(?P<sign>[+-]?) ?[$€£¥₹]? ?(?P<minus>-?)"
    r"(?:(?:(?P<whole>\d+) +)?(?P<top>\d+) ?/ ?(?P<bottom>\d+)"
    r"|(?P<decimal>(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+))"
    r"(?P<unit> ?%| +[A-Za-z][A-Za-z./' -]*(?:\^?\{?[23]\}?)?|(?:[cmk]m|k?g|m[lL]|lbs?|hrs?|th|st|nd|rd)\b)?"
)
_NOT_A_UNIT = re.compile(
    r"(pi|sqrt|log|ln|sin|cos|tan|exp|or|and|to|by|over|times|plus|minus|mod|choose|factorial|squared|cubed"
    r"|hundred|thousand|million|billion|trillion|dozen|[abcdefiknopqrtuxyz])\b"
)
_WORDS = re.compile(r"(?=.*[A-Za-z]{3})[A-Za-z][A-Za-z' ,.-]*")


def extract_answer(text: str) -> str:
    r"""The final answer that a text states, or '' when it states none.

    The last of ``\boxed{...}``, GSM8K's ``#### ...`` and "the answer is ..." ("answer: ..."), or
    else the last number.
    """
    numbers: list[str] = _NUMBER.findall(text)
    return _marked(text) or (numbers[-1] if numbers else "")


def equivalent(prediction: str, gold: str) -> bool:
    """Whether a predicted answer equals the gold answer; never raises for a strange string.

    Units, currency signs and thousands separators do not matter where only one side has them; a
    percentage equals both its number and its fraction. Sets are compared without order.

    Raises:
        VerificationError: if no worker can be started (math-verify is not installed).
    """
    given, wanted = (_marked(side) or _tidy(side) for side in (prediction, gold))
    if not given or not wanted or max(len(given), len(wanted)) > MAX_LENGTH:
        return False
    a, b = _plain(given), _plain(wanted)
    if a and a.replace(" ", "").casefold() == b.replace(" ", "").casefold():
        return True
    x, y = _quantity(a), _quantity(b)
    if x and y:
        return _same_quantity(x, y)
    if _WORDS.fullmatch(a) or _WORDS.fullmatch(b):
        return False
    return _symbolic(given, wanted)


def _marked(text: str) -> str:
    """What follows the last marker of an answer, or ''."""
    found = [_last_boxed(text), _last(_HASHES, text), _last(_PHRASE, text)]
    tidied = [(start, _tidy(answer)) for start, answer in found]
    return max(((start, answer) for start, answer in tidied if answer), default=(-1, ""))[1]


def _last(pattern: re.Pattern[str], text: str) -> tuple[int, str]:
    """Place and content of a marker's last match; the content ends with its sentence."""
    matches = [*pattern.finditer(text)]
    return (matches[-1].start(), _SENTENCE_END.split(matches[-1][1])[0]) if matches else (-1, "")


def _last_boxed(text: str) -> tuple[int, str]:
    """Place and content of the last box whose braces close, in one pass."""
    best, content, opened = -1, "", list[int]()
    for match in _BRACE.finditer(text) if "box" in text else ():
        token = match[0]
        if token == "}" and opened:
            start = opened.pop()
            if start > best:
                best, content = start, text[start : match.start()]
        elif token == "{" or len(token) > 2:
            opened.append(match.end() if len(token) > 1 else -1)
    return best, content


def _tidy(answer: str) -> str:
    """Without the full stop, the emphasis and the math delimiters around an answer."""
    answer = answer.strip().strip("*").rstrip(". \t\r\n")
    for left, right in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
        if len(answer) >= len(left + right) and answer.startswith(left) and answer.endswith(right):
            answer = answer[len(left) : -len(right)].strip().rstrip(".")
    return answer


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


# What follows compares expressions in workers.

_slots = threading.BoundedSemaphore(WORKERS)
_idle: list[subprocess.Popen[str]] = []
os.register_at_fork(after_in_child=_idle.clear)


def _symbolic(prediction: str, gold: str) -> bool:
    """What a worker says; False when it dies of the question. Works from any thread."""
    with _slots:
        for _ in range(2):  # a worker may have been killed while it was idle
            worker = _worker()
            verdict = _ask(worker, json.dumps([prediction, gold]))
            if verdict is not None:
                _idle.append(worker)
                return verdict
            _stop(worker)
            if worker.returncode == -signal.SIGALRM:
                break
    return False


def _worker() -> subprocess.Popen[str]:
    """An idle worker that is still alive, or a new one."""
    with suppress(IndexError):
        while True:
            worker = _idle.pop()
            if worker.poll() is None:
                return worker
            _stop(worker)
    worker = subprocess.Popen(
        [sys.executable, "-c", "from stepwise.verify import _serve; _serve()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)},
        start_new_session=True,
        text=True,
    )
    if _ask(worker, json.dumps(["x = 1", "1"])) is None:
        _stop(worker)
        raise VerificationError(
            "the answer checker could not be started; see what `python -c 'import math_verify'` says."
        )
    return worker


def _ask(worker: subprocess.Popen[str], question: str) -> bool | None:
    if worker.stdin is None or worker.stdout is None:
        return None
    with suppress(OSError):
        worker.stdin.write(question + "\n")
        worker.stdin.flush()
    answer = worker.stdout.readline()
    return bool(json.loads(answer)) if answer else None


def _stop(worker: subprocess.Popen[str]) -> None:
    worker.kill()
    with suppress(OSError):
        worker.communicate()


def _serve() -> None:
    """The program of a worker: pairs of answers in, verdicts out, one line of JSON each."""
    replies, sys.stdout = sys.stdout, sys.stderr
    logging.disable()
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    library = import_module("math_verify")
    options: dict[str, object] = {"fallback_mode": "no_fallback", "parsing_timeout": None}
    options["extraction_config"] = [library.LatexExtractionConfig()]
    for line in sys.stdin:
        signal.alarm(TIME_LIMIT_S)
        verdict = False
        with suppress(Exception):
            latex = (f"${answer.replace('**', '^')}$" for answer in json.loads(line))
            prediction, gold = (library.parse(formula, **options) for formula in latex)
            verdict = bool(library.verify(gold, prediction, timeout_seconds=None))
        signal.alarm(0)
        print(json.dumps(verdict), file=replies, flush=True)
