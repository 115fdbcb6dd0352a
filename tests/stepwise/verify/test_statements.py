"""What a model says is its answer is found, whatever its habit, in time linear in the length of the text."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwise.verify import equivalent, extract_answer

STATED = {
    "thinking": [
        (r"<think>Maybe \boxed{9}.</think> So the answer is 8.", "8"),
        ("<think>hm</think>\n<answer>42</answer>", "42"),
        (r"<thinking>\boxed{1}</thinking> So it is 2.", "2"),
        ("[THINK]5[/THINK]\n6", "6"),
        (
            "<|channel|>analysis<|message|>9?<|end|><|channel|>final<|message|>It is **4**.<|return|>",
            "4",
        ),
        ("<answer>The answer is 12 apples.</answer>", "12"),
        ("<answer> (B) </answer>", "B"),
    ],
    "later statement": [
        ("First \\boxed{24}, then 24*2.\n\nAnswer: 48", "48"),
        (r"We had \boxed{3}. So the answer is correct.", "3"),
        ('{"answer": "5"}\nThe answer is that 5 eggs last for 30 days.', "5"),
    ],
    "tail": [
        ("The answer is 5, not 6.", "5"),
        ("The answer is 5 because 2 + 3 = 5.", "5"),
        ("The answer is 9 (3 rows of 3).", "9"),
        ("The answer is $8 since two cost $16.", "8"),
        ("The answer is 3:4, i.e. 3 to 4.", "3:4"),
        ("The answer is (3, 4).", "(3,4)"),
        ("The answer is Monday, since it is 5 days later.", "Monday"),
        ("The final answer is 8! / 24 = 1680.", "1680"),
    ],
    "filler": [
        ("The answer is, therefore, 5.", "5"),
        ("Our answer is clearly $5$.", "5"),
        ("The answer is roughly 3.1.", "3.1"),
        ("Answer: y equals 6", "6"),
        ("The answer is given by 5.", "5"),
        ("So the answer is equal to $12$ miles", "12"),
    ],
    "boxes": [
        (r"So $x=\boxed{3}$ or $\boxed{-5}$", "3, -5"),
        (r"\boxed{12} \text{ or } \boxed{13}", "12, 13"),
        (r"\boxed 12.", "12"),
        (r"\boxed{x = \boxed{7}}", "7"),
        (r"so \boxed{\frac{1}{2", "1/2"),
        (r"$u=\boxed{1}$, $v=\boxed{2}$", "1, 2"),
    ],
    "headings": [
        ("### Answer\n42", "42"),
        ("**Final Answer**\n\n$\\frac12$\n\n*6 of 12*", "1/2"),
        ("The answer is:\n$$\n\\frac{1}{2}\n$$", "1/2"),
        ("So the answer is:\n\n12\n\nAsk me 3 more.", "12"),
    ],
    "json": [
        ('{"answer": ["1/2", 3]}', "1/2, 3"),
        ('{"answer": -3, "steps": 7}', "-3"),
        ('{"answer": "Cannot be known", "n": 1}', "Cannot be known"),
    ],
    "choices": [
        ("The correct option is (C).", "C"),
        ("Answer: A) all of the above", "A"),
        ("I choose option C.", "C"),
        ("The answer is D.", "D"),
    ],
    "chinese": [
        ("因此答案为 $\\frac{1}{2}$。", "1/2"),
        ("最终答案是42个。每盒 6 个。", "42"),
        ("综上，选C", "C"),
        ("答案：(3, 4)", "(3,4)"),
    ],
    "last line": [
        ("It fell to −3 degrees.", "-3"),
        ("It weighs 2.5e-3", "0.0025"),
        ("about 3 × 10^8 m/s", "3e8"),
        ("so x is in [2, 5).", "[2,5)"),
        ("It leaves at 10:05 a.m.", "10:05 am"),
        ("The ratio is 3 : 4.", "3:4"),
        ("That is 1 1/2 cups.", "3/2"),
        ("Total: 12\u00a0500", "12500"),
        ("P is 2/3 ≈ 0.667.", "2/3"),
        ("It is .75", "0.75"),
        (r"the area is 12\pi.", r"12\pi"),
        ("So 1.5 million live there.", "1500000"),
    ],
    "plural": [
        ("The roots are $x=1$ and $x=-2$.", "1, -2"),
        ("The possible values are 1, 2, and 3.", "1,2,3"),
        ("So x = 2 or x = 3.", "2, 3"),
        ("The roots of it are 2 and 3, so their sum is 5.", "5"),
        ("The roots are 2 and 3. So the sum is 5.", "5"),
        ("Answers: 2, 3", "2, 3"),
    ],
}
NOT_STATED = [
    (r"<think>It is \boxed{3}.</think> The final answer is 4.", "3"),
    (r"<think>It is \boxed{3}.</think>", "3"),
]
LONG = {
    "statements": "the answer is " * 11_000,
    "boxes in boxes": r"\boxed{" * 500 + "7" + "}" * 500,
    "open boxes": r"\boxed{" * 100_000,
    "spaces": r"\boxed{1}" + " " * 16_000 + r"\boxed{2}",
    "brackets": "[" * 100_000,
    "display": r"\[" * 50_000,
    "line ends": "\n# " * 100_000,
    "commas": "1," * 100_000,
    "keys": '"answer": [' * 20_000,
    "colons": "#### " + ":" * 100_000 + "a",
    "thoughts": "</think>" * 30_000,
    "reasons": "The answer is " + "because " * 20_000,
}


@pytest.mark.parametrize(
    ("text", "gold"),
    [pytest.param(*case, id=f"{kind}-{i}") for kind, cases in STATED.items() for i, case in enumerate(cases)],
)
def test_the_stated_answer_is_found(text: str, gold: str) -> None:
    assert equivalent(extract_answer(text), gold), extract_answer(text)


@pytest.mark.parametrize(("text", "answer"), NOT_STATED)
def test_what_is_not_stated_is_not_found(text: str, answer: str) -> None:
    assert not equivalent(extract_answer(text), answer)


def test_boxes_in_boxes_are_one_answer() -> None:
    assert extract_answer(LONG["boxes in boxes"]) == "7"


def seconds(text: str) -> float:
    start = time.perf_counter()
    extract_answer(text)
    return time.perf_counter() - start


@pytest.mark.parametrize("name", LONG)
def test_time_is_linear_in_the_length(name: str) -> None:
    text = LONG[name]
    quarter = min(seconds(text[: len(text) // 4]) for _ in range(2))
    assert min(seconds(text) for _ in range(2)) < 12 * quarter + 0.2  # 16 times would be quadratic


@given(
    st.text()
    | st.from_regex(
        r"(\\boxed\{?|####|answers? (is|are|:) |</think>|<answer>|答案是|\*\*|\\\(|[{}$.,;:\d/%\n -]|or )*",
        fullmatch=True,
    )
)
def test_no_text_is_too_strange(text: str) -> None:
    assert isinstance(extract_answer(text), str)
