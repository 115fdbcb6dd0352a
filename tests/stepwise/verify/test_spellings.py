"""The same answer in other spellings is the same, and what only looks alike is not, kind by kind."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwise.verify import equivalent
from stepwise.verify.latex import spelt
from stepwise.verify.numbers import number
from stepwise.verify.unicode import folded
from stepwise.verify.units import split_unit

EQUAL = {
    "decimals": [
        ("1.41421356", r"\sqrt{2}"),
        ("3.14159265", r"\pi"),
        ("0.666667", "2/3"),
        ("0.666666", "2/3"),
    ],
    "units": [
        (r"5\sqrt{2}", r"5\sqrt{2} \text{ feet}"),
        ("12 square meters", r"12\text{ m}^2"),
        (r"\text{Length} = 7 \text{ cm}", "7"),
        ("37°C", "37"),
        ("2 hrs", r"2 \text{ hours}"),
        ("48g", "48"),
        ("USD 5", "5 dollars"),
        (r"5 \text{ m/s}", r"5 \text{ meters per second}"),
        ("9 units", "9 cm"),
    ],
    "letters": [("3+2t", "2t+3"), ("4+7d", "7d+4"), ("2l+3w", "3w+2l"), (r"\csc^2 x", r"1+\cot^2 x")],
    "numerals": [
        (r"0.\overline{142857}", "1/7"),
        (r"0.1\overline{23}", "61/495"),
        (r"0.\dot{6}", "2/3"),
        ("0.(3)", "1/3"),
        (r"0.1\dot{4}2857\dot{1}", r"0.1\overline{428571}"),
        (r"2\times10^{-3}", "0.002"),
        ("3.2E5", "320000"),
        ("10⁻³", "0.001"),
        ("1{,}250", "1250"),
        ("0{,}5", "1/2"),
        ("2.345,6", "2345.6"),
        (r"7\,500", "7,500"),
        ("5 million", "5000000"),
        ("$2.5 billion", "2500000000"),
        (r"21^{\text{st}}", "21"),
        ("-1½", "-1.5"),
    ],
    "bases": [
        (r"1010_{\text{two}}", "1010_2"),
        ("ff_{16}", "FF_{16}"),
        ("(1010)_2", "1010_2"),
        ("777", "777_8"),
    ],
    "unicode": [
        ("—7", "-7"),
        ("﹣7", "-7"),
        ("７．５", "7.5"),
        ("（B）", "B"),
        ("（ 1，2 ）", "(1,2)"),
        ("6\u202f500", "6500"),
        ("⅜", r"\frac38"),
        ("2√3", r"2\sqrt{3}"),
        ("∛8", "2"),
        ("x ≥ 3", r"[3,\infty)"),
        ("\u200b5", "5"),
        ("4.0 × 10⁶", "4000000"),
        ("3∶4", "3:4"),
        ("5̅", "5̅"),
    ],
    "complex": [
        (r"3e^{i\pi/2}", "3i"),
        (r"\frac{2}{1+i}", "1-i"),
        ("(1+2i)(3-i)", "5+5i"),
        (r"\sqrt{-4}", "2i"),
        (r"3+4\mathrm{i}", "3+4i"),
    ],
    "sets": [
        (r"x \le -1 or x \ge 1", r"(-\infty,-1]\cup[1,\infty)"),
        ("x>2 and x<5", "(2,5)"),
        ("|x-1|<2", "(-1,3)"),
        (r"\{x : x \ge 2\}", r"[2,\infty)"),
        (r"x \ne 0", r"(-\infty,0)\cup(0,\infty)"),
        (r"x \neq \pm 2", r"(-\infty,-2)\cup(-2,2)\cup(2,\infty)"),
        ("(-inf, -2) U (2, inf)", "|x|>2"),
        ("all real numbers except 2", r"(-\infty,2)\cup(2,\infty)"),
    ],
    "ascii": [
        ("sqrt(3)/2", r"\frac{\sqrt{3}}{2}"),
        ("(1+sqrt(5))/2", r"\frac{1+\sqrt5}{2}"),
        ("7 - 7*pi", r"7-7\pi"),
        ("cbrt(2)", r"\sqrt[3]{2}"),
        ("x**2", "x^2"),
        ("exp(1)", "e"),
        ("x>=3", r"[3,\infty)"),
        ("abs(x)", "|x|"),
    ],
    "wording": [
        (r"\text{choice (B)}", "B"),
        (r"\text{The value is about } 5", "5"),
        (r"\textcolor{red}{5}", "5"),
        (r"\boldsymbol{\frac{3}{4}}", "0.75"),
        (r"\Large 5", "5"),
        (r"\text{No, } 5", "5"),
        ("a parabola", "parabola"),
        (r"\therefore x = 5", "5"),
        (r"\approx 2.7", "2.7"),
        (r"\bf{5}", "5"),
        (r"\text{Hence } 5", "5"),
    ],
    "several": [
        (r"\frac{1\pm\sqrt{2}}{3}", r"\frac{1+\sqrt2}{3}, \frac{1-\sqrt2}{3}"),
        ("x_1=3, x_2=-5", "3,-5"),
        (r"\langle 1,2 \rangle", "(1,2)"),
        (r"2\mathbf{i}+3\mathbf{j}", "(2,3)"),
        ("2:4:6", "1:2:3"),
        (r"\begin{pmatrix}7\\-9\end{pmatrix}", "(7,-9)"),
        (r"-\hat{i}+\hat{k}", "(-1,0,1)"),
    ],
    "residues": [(r"n \equiv 5 \pmod{8}", "5"), (r"5 \pmod 8", r"13 \pmod{8}"), ("x = 3 mod 5", "3")],
    "times": [
        ("5:15 PM", r"\text{5:15 p.m.}"),
        ("17:15", "5:15 pm"),
        ("5:15", "5:15 p.m."),
        ("5 pm", "5:00 p.m."),
    ],
}
UNEQUAL = {
    "exact": [
        ("0", r"\frac{1}{3000017}"),
        ("7 1/5003", "7 1/5002"),
        (r"\frac{1}{7^{50}}", r"\frac{1}{7^{51}}"),
        (r"1-(\frac{1}{5})^{900}", r"1-(\frac{1}{7})^{900}"),
        ("2^{100}", "2^{100}+1"),
        ("e^{-50}", "e^{-51}"),
        (r"\sqrt{10^{20}+1}", "10^{10}"),
        (r"\sqrt{2}+10^{-30}", r"\sqrt{2}"),
        ("10^{-9}", "0"),
        (r"2^{903}\sqrt{2^{1804}+5}-2^{1805}", r"2^{903}\sqrt{2^{1804}+6}-2^{1805}"),
    ],
    "decimals": [
        ("0.67", "2/3"),
        ("1.4142", r"\sqrt{2}"),
        ("0.333334", "1/3"),
        ("0.000001", "1/1000001"),
        ("5.0000001", "5"),
        ("0.3333333", "0.3333334"),
    ],
    "units": [
        ("12cm", "12m"),
        ("2 m", "2 km"),
        ("3 hours", "3 minutes"),
        (r"7 \text{ in}^2", r"7 \text{ in}^3"),
    ],
    "letters": [("5+2m", "7"), ("3m+2", "5"), ("12t", "12s"), ("5h", "5"), ("7c", "7d")],
    "bases": [("321_4", "321_5"), ("1010_{3}", "1010_2")],
    "numerals": [
        (r"0.\overline{3}", "0.3"),
        ("1.5e-3", "1.5e-4"),
        ("2.345,6", "23456"),
        ("5 million", "5 thousand"),
    ],
    "complex": [("1+i", "1-i"), ("i", "-i")],
    "sets": [("x>3", r"[3,\infty)"), ("|x|>2", "(-2,2)"), ("x>2 and x<5", r"(-\infty,5)")],
    "wording": [("Option C", "D"), ("a parabola", "an ellipse"), (r"\text{no solution}", r"\text{solution}")],
    "several": [(r"2\pm\sqrt3", r"2+\sqrt3"), ("3:4", "4:3"), (r"2\mathbf{i}+3\mathbf{j}", "(3,2)")],
    "residues": [(r"3 \pmod 5", r"4 \pmod 5"), (r"3 \pmod 5", r"3 \pmod 6"), (r"3 \pmod 5", "4")],
    "times": [("7:20 a.m.", "7:20 p.m."), ("7:20 am", "19:20"), ("7:20", "7:21 am")],
}


def flat(cases: dict[str, list[tuple[str, str]]]) -> list[object]:
    return [pytest.param(*pair, id=f"{kind}-{pair[0]}") for kind, pairs in cases.items() for pair in pairs]


@pytest.mark.parametrize(("prediction", "gold"), flat(EQUAL))
def test_other_spellings_are_the_same_answer(prediction: str, gold: str) -> None:
    assert equivalent(prediction, gold) and equivalent(gold, prediction)


@pytest.mark.parametrize(("prediction", "gold"), flat(UNEQUAL))
def test_what_looks_alike_is_not_the_same_answer(prediction: str, gold: str) -> None:
    assert not equivalent(prediction, gold) and not equivalent(gold, prediction)


@given(st.fractions(), st.fractions())
def test_fractions_are_compared_exactly(a: Fraction, b: Fraction) -> None:
    assert equivalent(str(a), str(b)) is (a == b)


@given(st.integers(1, 10**6), st.integers(0, 5), st.integers(-20, 20))
def test_scientific_notation_is_exact(mantissa: int, places: int, exponent: int) -> None:
    read = number(f"{mantissa / 10**places:.{places}f}e{exponent}")
    assert read is not None and read.value == Fraction(mantissa, 10**places) * Fraction(10) ** exponent


@given(st.text())
def test_any_text_has_a_spelling(text: str) -> None:
    assert folded(folded(text)) == folded(text)
    assert isinstance(split_unit(spelt(text))[0], str)


def test_a_unit_is_split_off_and_a_variable_is_not() -> None:
    assert split_unit(r"8\sqrt{3} \text{ square inches}") == (r"8\sqrt{3}", "square in")
    assert split_unit("40 pens") == ("40", "pen")
    assert split_unit("4+3m") == ("4+3m", "")
    assert split_unit(r"x \text{ and } y")[1] == ""
