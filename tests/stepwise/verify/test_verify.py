"""Answers are found in texts and compared with the gold answer, fast where possible and always safely."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwise.verify import compare, equivalent, extract_answer, symbolic
from tests import fuzz

EQUAL = [
    ("42", "42"),
    ("42", "42.0"),
    ("42.", "42"),
    ("042", "42"),
    ("-7", "\u22127"),
    ("+5", "5"),
    ("1,234,567", "1234567"),
    ("1{,}000", "1000"),
    ("$18", "18"),
    ("-$5", "-5"),
    ("$1,200.50", "1200.5"),
    (r"\$18.00", "18"),
    ("€20", "20"),
    ("50%", "50"),
    (r"50\%", "0.5"),
    ("1/2", "50%"),
    ("12 percent", "12%"),
    ("42 apples", "42"),
    ("60 km/h", "60"),
    ("5cm", "5"),
    (r"5\text{ cm}", "5"),
    ("5 cm^2", "5"),
    ("5 apple", "5 apples"),
    (r"90^\circ", "90"),
    ("1/2", "0.5"),
    (r"\frac{1}{2}", "0.5"),
    (r"\dfrac{3}{4}", r"\frac{3}{4}"),
    (r"\frac12", "1/2"),
    (r"-\frac{1}{2}", r"\frac{-1}{2}"),
    ("2/4", "1/2"),
    ("1 1/2", "1.5"),
    (r"1\frac{1}{2}", "3/2"),
    ("0.333333", "1/3"),
    ("(A)", "A"),
    ("b", "(B)"),
    (r"\text{Evelyn}", "evelyn"),
    ("New York", r"\text{New York}"),
    ("$x=5$", "x = 5"),
    ("x = 5", "5"),
    ("5", "x=5"),
    (r"\{1,2,3\}", r"\{3,2,1\}"),
    ("1, 2", "2, 1"),
    ("[1,2)", "[1, 2)"),
    (r"(-\infty,3)\cup(5,\infty)", r"(5,\infty)\cup(-\infty,3)"),
    (r"2 \pm \sqrt{3}", r"2+\sqrt{3}, 2-\sqrt{3}"),
    (r"\pm 2", r"\{-2, 2\}"),
    (r"2\sqrt{2}", r"\sqrt{8}"),
    ("2*sqrt(2)", r"2\sqrt{2}"),
    ("2**10", "1024"),
    (r"3 \times 10^5", "300000"),
    ("(x+1)^2", "x^2+2x+1"),
    (r"\pi/2", r"\frac{\pi}{2}"),
    ("3+4i", "4i+3"),
    ("3 > x", "x < 3"),
    ("5!", "120"),
    (r"\log_2 8", "3"),
    (r"\begin{bmatrix}1&2\\3&4\end{bmatrix}", r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}"),
    (r"The answer is $\boxed{\frac{1}{2}}$.", "0.5"),
    ("12 * 6 = 72\n#### 72", "72"),
    ("So the answer is 72.", "12 * 6 = 72\n#### 72"),
    ("84 times", "84"),
    ("-10°F", "-10"),
    ("168,000 \\, \\text{\\$}", "168000"),
    ("$25,000/year", "25000"),
    ("x \\in [1,2)", "[1,2)"),
    ("(A) 12", "A"),
    ("B. 12 cm", "B"),
    ("(x, y) = (3, 4)", "(3,4)"),
    ("x=2, x=-2", "\\pm 2"),
    ("x = 2 or x = -2", "2, -2"),
    ("x=\\pm 2", "2,-2"),
    ("√3", "\\sqrt{3}"),
    ("2√3", "2\\sqrt{3}"),
    ("π/2", "\\frac{\\pi}{2}"),
    ("x²", "x^2"),
    ("-∞", "-\\infty"),
    ("½", "1/2"),
    ("5×10^3", "5000"),
    ("1\\,000", "1000"),
    ("10\\%", "10"),
    ("\\frac{1}{2}\\text{ hours}", "0.5"),
    ("\\$10.00", "10"),
    ("3:2", "3/2"),
    ("3:2", "3:2"),
    ("90^{\\circ}", "90"),
    ("\\text{(B)}", "B"),
    ("\\mathbb{R}", "(-\\infty,\\infty)"),
    ("\\emptyset", "\\{\\}"),
    ("{1, 2, 3}", "\\{1,2,3\\}"),
    ("1 \\text{ and } 2", "1,2"),
    ("1 and 2", "1,2"),
    ("x^2+1", "1+x^2"),
    ("f(x)=x^2", "x^2"),
    ("\\left(\\frac{1}{2}, 3\\right)", "(0.5,3)"),
    ("\\begin{pmatrix} -1 \\\\ 2 \\end{pmatrix}", "\\begin{pmatrix}-1\\\\2\\end{pmatrix}"),
    ("\\sqrt[3]{8}", "2"),
    ("2516_{8}", "2516_8"),
    ("11:30", "11:30"),
    ("y=2x+1", "y = 2x + 1"),
    ("2x+1=y", "y=2x+1"),
    ("[2,5]", "2\\le x\\le 5"),
    ("\\infty", "+\\infty"),
    ("\\varnothing", "\\emptyset"),
    ("\\{\\}", "\\emptyset"),
    ("0.5", "50\\%"),
    ("1 000 000", "1000000"),
    ("1,2,3", "3,2,1"),
    ("(1,2),(3,4)", "(3,4),(1,2)"),
]
UNEQUAL = [
    ("", "5"),
    ("5", ""),
    ("42", "43"),
    ("42", "-42"),
    ("1.0000001", "1"),
    ("0.33", "1/3"),
    ("1/3", "2/3"),
    ("1/0", "1"),
    ("1,23", "123"),
    ("5 cm", "5 m"),
    ("50%", "0.05"),
    ("5 million", "5"),
    ("5x", "5"),
    ("5 or 6", "6"),
    ("A", "B"),
    ("yes", "no"),
    ("Monday", "Mondya"),
    ("seven", "7"),
    ("y=5", "x=5"),
    (r"\{1,2\}", r"\{1,2,3\}"),
    ("2,3", "3"),
    ("[1,2)", "(1,2)"),
    ("(1,2)", "(2,1)"),
    (r"\pm 2", "2"),
    (r"-\infty", r"\infty"),
    ("3-4i", "3+4i"),
    (r"\begin{pmatrix}1&2\\3&5\end{pmatrix}", r"\begin{pmatrix}1&2\\3&4\end{pmatrix}"),
    ("x^2+2x+2", "(x+1)^2"),
    (r"\text{no solution}", "5"),
    ("I cannot solve this.", "5"),
    ("3:2", "2:3"),
    ("(1,2)", "[1,2]"),
    ("1,2", "1,2,3"),
    ("(A) 12", "B"),
    ("11:30", "11:35"),
    ("x=2", "-2"),
    ("10", "100"),
    ("1e3", "1e4"),
    ("C", "c+1"),
    ("a", "e"),
    ("0", "\\emptyset"),
    ("", "0"),
    ("{}", "0"),
    ("5.0001", "5"),
    ("1/3", "0.3"),
    ("A", "apple"),
    ("12", "12, 13"),
    ("\\{1\\}", "\\{1,2\\}"),
    ("(3,4)", "7"),
    ("x", "y"),
    ("undefined", "0"),
    ("None", "0"),
    ("nan", "nan1"),
    ("0/0", "0"),
    ("inf", "0"),
    (r"\sqrt[e]{\infty} \cdot \frac{\sqrt{2}}{\pi}", r"-\frac{8191}{127}"),
    (r"\infty", "5"),
    (r"(\sqrt{2} \cdot \sqrt{2},\sum_{n=31976811}^{\sqrt{2}} n]", "(3,-97]"),
    ("(3,-97]", "(9,1]"),
    ("(5,1]", r"\emptyset"),
]
EXTRACTED = [
    (r"so \boxed{\frac{1}{2}} it is", r"\frac{1}{2}"),
    (r"\boxed{1} and then \boxed{2}.", "2"),
    (r"\boxed{\text{a} \{x\}}", r"\text{a} \{x\}"),
    (r"\boxed{\boxed{7}}", "7"),
    (r"\boxed{7} or \boxed{8", "7"),
    ("3 * 4 = <<3*4=12>>12\n#### 1,234", "1,234"),
    ("The answer is 42.", "42"),
    ("The answer is 42. I hope it helps 100%.", "42"),
    ("The answer is 3.14.", "3.14"),
    ("the final answer is: $x=5$.", "x=5"),
    ("**Answer:** 12", "12"),
    ("Answer:\n42", "42"),
    ("The answer is 1.\nNo, the answer is 2.", "2"),
    (r"The answer is $\boxed{3}$.", "3"),
    ("3 boxes of 12 make 36 pens", "36"),
    ("it is -5", "-5"),
    ("9-5 is 4 and 10-7", "7"),
    ("that is $1,200.50.", "$1,200.50"),
    ("about 3/4", "3/4"),
    ("no number here", ""),
    ("", ""),
    ("The solutions are $\\boxed{1}$ and $\\boxed{2}$.", "1, 2"),
    ("\\boxed{1}, \\boxed{2}, \\boxed{3}", "1, 2, 3"),
    ("\\boxed{1}\\n\\boxed{2}", "2"),
    ('{"reasoning": "x", "answer": "\\\\frac{1}{2}"}', "\\frac{1}{2}"),
    ('{"answer": 12}', "12"),
    ("\\boxed{\\text{answer: 12}}", "\\text{12}"),
    ("#### Step 4: sum\nSo 12 is it", "12"),
    ("Therefore it is **Evelyn**.", "Evelyn"),
    ("Thus \\(\\frac{2}{3}\\) of the pie.", "\\frac{2}{3}"),
    ("The answer is that John made $114,200 that year.", "$114,200"),
]
HARD = [
    "9^9^9^9",
    "10**(10**10)",
    "1e999999999",
    "9" * 9_999,
    "{" * 5_000,
    r"\frac{1}{" * 900 + "2" + "}" * 900,
    "²³½ ∑ ∞ 🍎",
    "\ud800\x00",
    "'; import os; os._exit(0)",
    "12" * 500_000,
]


@pytest.mark.parametrize(("prediction", "gold"), EQUAL)
def test_equal_answers(prediction: str, gold: str) -> None:
    assert equivalent(prediction, gold)


@pytest.mark.parametrize(("prediction", "gold"), UNEQUAL)
def test_unequal_answers(prediction: str, gold: str) -> None:
    assert not equivalent(prediction, gold)


@pytest.mark.parametrize(("text", "answer"), EXTRACTED)
def test_the_last_stated_answer_is_extracted(text: str, answer: str) -> None:
    assert extract_answer(text) == answer


@pytest.mark.parametrize("answer", HARD, ids=range(len(HARD)))
def test_hostile_answers_are_wrong_within_the_limit(answer: str) -> None:
    equivalent("x=1", "1")  # a worker is up
    start = time.perf_counter()
    assert not equivalent(answer, "x+1")
    assert time.perf_counter() - start < symbolic.CLOCK_LIMIT_S + 3
    assert equivalent("x=1", "1")


@pytest.mark.parametrize(
    "text", ["{" * 10**6, r"\boxed{" * 10**5, "answer is " * 10**5, "1" * 10**6, "####" * 10**5]
)
def test_extraction_takes_linear_time(text: str) -> None:
    start = time.perf_counter()
    extract_answer(text)
    assert time.perf_counter() - start < 3


def test_a_killed_worker_is_replaced() -> None:
    assert equivalent("x=1", "1")
    for worker in symbolic._idle:
        worker.kill()
    assert equivalent("x=1", "1")


def test_any_thread_can_ask() -> None:
    pairs = [(f"x={i}", str(i + i % 2)) for i in range(40)]
    with ThreadPoolExecutor(8) as pool:
        verdicts = list(pool.map(lambda pair: equivalent(*pair), pairs))
    assert verdicts == [i % 2 == 0 for i in range(40)]
    assert len(symbolic._idle) <= symbolic.WORKERS


def test_no_answer_is_wrong_because_idle_workers_were_killed() -> None:
    """They may be dying and not yet be dead: these take the question, and are gone."""
    dying = [sys.executable, "-c", "import sys; sys.stdin.readline()"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    symbolic._idle.extend(subprocess.Popen(dying, **pipes) for _ in range(3))  # type: ignore[call-overload]
    assert symbolic.symbolic(r"\frac{1}{7}+\sqrt{2}", r"\sqrt{2}+\frac{1}{7}")


def test_workers_end_with_the_program() -> None:
    program = (
        "from stepwise.verify import equivalent, symbolic\n"
        "assert equivalent('x=1', '1')\nprint(symbolic._idle[0].pid)"
    )
    pid = int(
        subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout
    )
    for _ in range(50):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("the worker outlived its program")


def test_plain_answers_need_no_symbolic_library() -> None:
    program = (
        "import sys\n"
        "from stepwise.verify import equivalent\n"
        "from stepwise.verify.symbolic import _idle\n"
        "assert equivalent('$1,000', '1000.0') and not equivalent('41', '42')\n"
        "assert equivalent('(A)', 'A') and not equivalent('yes', 'no')\n"
        "assert not _idle and 'math_verify' not in sys.modules and 'sympy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@given(st.integers())
def test_a_number_equals_itself(number: int) -> None:
    assert equivalent(str(number), str(number))
    assert equivalent(f"{number:,}", str(number))


@given(st.integers(), st.integers())
def test_different_numbers_differ(a: int, b: int) -> None:
    assert equivalent(str(a), str(b)) is (a == b)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4))
def test_a_decimal_equals_its_fraction(number: object) -> None:
    top, bottom = number.as_integer_ratio()  # type: ignore[attr-defined]
    assert equivalent(str(number), f"{top}/{bottom}")


@given(st.text() | st.from_regex(r"(\\boxed\{|####|answer is |[{}$.,\d/%-])*", fullmatch=True))
def test_extraction_never_raises(text: str) -> None:
    assert isinstance(extract_answer(text), str)


@pytest.mark.slow
def test_strange_predictions_neither_raise_nor_hang_nor_count_as_right() -> None:
    with ThreadPoolExecutor(2) as pool:
        seconds = list(pool.map(fuzz.check, range(120)))
    assert max(seconds) < symbolic.CLOCK_LIMIT_S * 2 + 10  # two share two cores, and a worker starts anew


def test_hopeless_expressions_never_reach_a_worker() -> None:
    for answer in ("9^9^9^9", "8!!!", "(x+1)^{123456}", r"\frac{1}{" * 40 + "2" + "}" * 40, "{" * 100):
        assert compare._hopeless(answer)
    for answer in (r"\frac{13\sqrt{17}}{19}", "2^{2004}", "x^2+y^2=1", "5!", r"\{1,2\}"):
        assert not compare._hopeless(answer)


@pytest.mark.parametrize(
    ("answer", "suffice"),
    [("42", True), (r"\frac{1}{2}", True), ("(B)", True), ("x = 5", True), ("Evelyn", True),
     ("all primes congruent to one modulo four", False), ("{" * 50, False)],
)  # fmt: skip
def test_rules_know_what_they_cannot_compare(answer: str, suffice: bool) -> None:
    assert compare.rules_suffice(answer) is suffice
