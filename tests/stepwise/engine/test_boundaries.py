"""Where a step ends: a table of cases, and the property that steps joined are the text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwise.backends.scripted import ScriptedBackend
from stepwise.engine.boundaries import Boundaries, ends_answer
from stepwise.engine.cost import Tokens
from stepwise.engine.engine import Engine
from stepwise.engine.stop_rules import StepRule
from stepwise.routers import Always, Confidence, ThresholdRouter
from stepwise.types import Problem

BLANK = Boundaries(("\n\n",), at_limit=True)
LINE = Boundaries(("\n",), at_limit=True)
PROSE = Boundaries(("\n\n",), sentences_after=20, at_limit=True)


def steps(text: str, boundaries: Boundaries, limit: int = 1000) -> list[str]:
    return ["".join(step) for step in boundaries.steps(list(text), limit)]


@pytest.mark.parametrize(
    ("boundaries", "text", "expected"),
    [
        (BLANK, "one\n\ntwo", ["one\n\n", "two"]),
        (BLANK, "one\n \t\ntwo", ["one\n \t\n", "two"]),
        (BLANK, "one\r\n\r\ntwo", ["one\r\n\r\n", "two"]),
        (BLANK, "one\n\n\n\ntwo", ["one\n\n", "\n\ntwo"]),
        (BLANK, "\n\none\n\ntwo", ["\n\none\n\n", "two"]),
        (BLANK, "one\ntwo\n\n", ["one\ntwo\n\n"]),
        (LINE, "a = 1\nb = 2\n", ["a = 1\n", "b = 2\n"]),
        (LINE, "\n\nb\n", ["\n\nb\n"]),
        (PROSE, "Pi is 3.14 and nothing more. It goes on", ["Pi is 3.14 and nothing more.", " It goes on"]),
        (PROSE, "Short. And then a line\nmore", ["Short. And then a line\n", "more"]),
    ],
)  # fmt: skip
def test_steps_end_at_boundaries(boundaries: Boundaries, text: str, expected: list[str]) -> None:
    assert steps(text, boundaries) == expected


def test_a_limit_cuts_at_the_last_line_end_before_it() -> None:
    assert steps("ab\ncd\nefgh", BLANK, limit=8) == ["ab\ncd\n", "efgh"]
    assert steps("abcdefgh", BLANK, limit=3) == ["abc", "def", "gh"]


texts = st.text(st.sampled_from("ab. \n\t\r1)"), max_size=120)


@given(texts, st.sampled_from([BLANK, LINE, PROSE]), st.integers(1, 40))
@settings(max_examples=500, deadline=None)
def test_joined_steps_are_the_text(text: str, boundaries: Boundaries, limit: int) -> None:
    cut = steps(text, boundaries, limit)
    assert "".join(cut) == text
    assert all(0 < len(step) <= limit for step in cut)
    for step in cut[:-1]:  # only a limit ends a step of blanks
        assert step.strip() or len(step) == limit


@given(texts, st.sampled_from([BLANK, LINE, PROSE]), st.data())
@settings(max_examples=300, deadline=None)
def test_how_a_text_is_split_into_tokens_moves_an_end_by_no_more_than_a_token(
    text: str, boundaries: Boundaries, data: st.DataObject
) -> None:
    pieces, left = [], text
    while left:
        size = data.draw(st.integers(1, 4))
        pieces.append(left[:size])
        left = left[size:]
    one, _ = boundaries.cut(text, "end", 1000)
    count, _ = boundaries.cut(pieces, "end", 1000)
    assert len("".join(pieces[:count])) - one < 4 or boundaries is PROSE


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        (r"Let $r=\frac{1}{2}.$ Then", False),
        (r"so \boxed{31}.", True),
        (r"so \boxed{\frac{1}{2}}", True),
        (r"so \boxed{\frac{1}{2}", False),
        (r"\boxed{\{1, 2\}} it is", True),
        ("Question: what", True),
        ("the\nQuestion: what", True),
        ("the Question: what", False),
    ],
)
def test_an_answer_ends_with_a_closed_box_or_where_the_next_question_begins(text: str, ends: bool) -> None:
    assert ends_answer(text, ("\\boxed{}", "\nQuestion:")) is ends


def world(text: str, *, lookahead: bool, **rule: int) -> Engine:
    made = {
        name: ScriptedBackend(lambda seen: text[len(seen.partition("|")[2]) :], logprob=-0.5)
        for name in ("small", "large")
    }
    return Engine(
        made, prompt="{question}|", rule=StepRule("\n\n", rule.pop("max_step_tokens", 12), 200, **rule),
        cost=Tokens(), lookahead=tuple(made) if lookahead else (),
    )  # fmt: skip


ANSWERS = st.text(st.sampled_from("ab. \n"), min_size=1, max_size=80).filter(str.strip)


ROUTERS = [Always("large"), ThresholdRouter(Confidence("min"), 0.1, "c")]


@given(ANSWERS, st.booleans(), st.sampled_from(ROUTERS))
@settings(max_examples=150, deadline=None)
def test_a_chain_is_the_uninterrupted_text(text: str, lookahead: bool, router: object) -> None:
    trace = world(text, lookahead=lookahead).solve_sync(Problem("p", "q"), router)  # type: ignore[arg-type]
    if trace.stop == "answered":
        assert trace.text == text
    else:
        assert trace.stop == "repeated" and text.startswith(trace.text)


def test_a_step_without_end_no_longer_ends_the_chain() -> None:
    text = "one long step that never meets a blank line and goes on\nThe answer is 7."
    trace = world(text, lookahead=False).solve_sync("q", Always("large"))
    assert trace.stop == "answered" and trace.answer == "7" and len(trace.steps) > 3
    cut = world(text, lookahead=False, max_tokens=20).solve_sync("q", Always("large"))
    assert cut.stop == "max_tokens" and sum(len(step.token_ids) for step in cut.steps) == 20


def test_equal_lines_that_are_few_and_short_do_not_end_a_chain() -> None:
    table = "| 1 | 1 |\n\n" * 6 + "The answer is 6."
    assert world(table, lookahead=False).solve_sync("q", Always("large")).stop == "answered"
    loop = "I have to think about this once more, from the start.\n\n" * 40
    trace = world(loop, lookahead=False, max_step_tokens=64).solve_sync("q", Always("large"))
    assert trace.stop == "repeated" and len(trace.steps) < 10
