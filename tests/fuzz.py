"""Predictions that a model could never be talked out of: for the test of verification, and at length by hand.

python -m tests.fuzz 10000            # so many; or from one on: 10000 6000
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from stepwise.verify import equivalent, extract_answer
from stepwise.verify.symbolic import TIME_LIMIT_S

GOLDS = (
    "17.3125", r"-\frac{8191}{127}", r"\text{Zanzibar}", "(3,-97]", r"\{101,202,307\}", "G", "123456789",
    r"\begin{pmatrix}7\\-9\end{pmatrix}", "x^3-5x+19", r"\frac{13\sqrt{17}}{19}", "y=19x-23", 
    r"5\pm\sqrt{47}",
)  # fmt: skip
"""None of them can be hit by chance."""
ATOMS = ("x", r"\pi", r"\sqrt{2}", "e", "i", r"\infty", r"\alpha")
FORMS = (
    "{%s}^{%s}", r"\frac{%s}{%s}", "(%s)+(%s)", r"%s \cdot %s", r"\sqrt[%s]{%s}", r"\binom{%s}{%s}",
    r"\int_{%s}^{%s} x dx", r"\sum_{n=%s}^{%s} n", r"\log_{%s}{%s}",
)  # fmt: skip
TRICKS = (
    '__import__("os").system("x")', "lambda: 0", 'exec("1")', "sympy.factorial(10**9)", 
    r"\input{/etc/passwd}",
    "0x" + "f" * 2000, "-" * 999 + "1", "1/" * 500 + "1", "nan", "inf", "None", "True", "0/0", "1/0",
)  # fmt: skip


def prediction(seed: int) -> str:
    """One strange prediction; every five-hundredth is a megabyte long."""
    rng = random.Random(seed)
    text = rng.choice(KINDS)(rng)
    return (text * (1 + 10**6 // max(len(text), 1)))[: 10**6] if seed % 500 == 7 else text


def digits(rng: random.Random) -> str:
    return str(rng.randrange(10 ** rng.randrange(1, 9)))


def expression(rng: random.Random, depth: int) -> str:
    if depth <= 0:
        return rng.choice((digits(rng), *ATOMS))
    return rng.choice(FORMS) % (expression(rng, depth - 1), expression(rng, depth - 1))


def characters(rng: random.Random) -> str:
    ranges = (rng.randrange(32, 127), rng.randrange(160, 0x2FFF), rng.randrange(0x1F300, 0x1F6FF), 0, 0xD800)
    return "".join(chr(rng.choice(ranges)) for _ in range(rng.randrange(1, 200)))


def matrix(rng: random.Random) -> str:
    width, height = rng.randrange(1, 30), rng.randrange(1, 30)
    rows = (" & ".join(rng.choice(ATOMS) for _ in range(width)) for _ in range(height))
    return r"\begin{pmatrix}" + r" \\ ".join(rows) + r"\end{pmatrix}"


def words(rng: random.Random) -> str:
    some = ("the", "answer", "is", "x", "=", "5", "or", "$", "\\", "####", r"\boxed{", "}", "**")
    return " ".join(rng.choice(some) for _ in range(rng.randrange(1, 80)))


KINDS: tuple[Callable[[random.Random], str], ...] = (
    lambda rng: "^".join(digits(rng) for _ in range(rng.randrange(2, 9))),
    lambda rng: "{" * rng.randrange(1, 5000),
    lambda rng: r"\frac{1}{" * rng.randrange(1, 800) + "2" + "}" * rng.randrange(800),
    characters,
    lambda rng: digits(rng) + "!" * rng.randrange(1, 6),
    lambda rng: expression(rng, rng.randrange(1, 6)),
    lambda rng: r"\boxed{" * rng.randrange(1, 50) + expression(rng, 2) + "}" * rng.randrange(50),
    lambda rng: rng.choice((*TRICKS, "1e" + digits(rng))),
    matrix,
    lambda rng: r"\{" + ",".join(digits(rng) for _ in range(rng.randrange(1, 400))) + r"\}",
    lambda rng: rng.choice("[(") + expression(rng, 1) + "," + expression(rng, 1) + rng.choice("])"),
    words,
    lambda rng: "x=" * rng.randrange(1, 300) + expression(rng, 1),
    lambda rng: "(x+1)^{" + digits(rng) + "}",
)


def check(seed: int) -> float:
    """Seconds that one prediction takes; fails if it raises or counts as right."""
    text, gold = prediction(seed), GOLDS[seed % len(GOLDS)]
    began = time.perf_counter()
    extract_answer(text)
    if equivalent(text, gold):
        raise AssertionError(f"seed {seed}: {text[:200]!r} counts as {gold!r}")
    return time.perf_counter() - began


def main(count: int, first: int = 0) -> None:
    began = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        seconds = []
        for done, taken in enumerate(pool.map(check, range(first, count)), first + 1):
            seconds.append(taken)
            if done % 500 == 0:
                print(
                    f"{done}: {time.perf_counter() - began:.0f} s, slowest {max(seconds):.1f} s", flush=True
                )
    late = sum(taken > TIME_LIMIT_S - 0.2 for taken in seconds)
    print(f"{count - first} predictions, none counted as right, none raised; slowest {max(seconds):.1f} s")
    print(f"{late} ended by the limit of {TIME_LIMIT_S} s")


if __name__ == "__main__":
    main(*(int(number) for number in sys.argv[1:] or ["10000"]))
