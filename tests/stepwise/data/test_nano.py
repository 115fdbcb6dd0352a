"""nano problems: right, readable, reproducible, and never in two splits."""

from __future__ import annotations

import re
from itertools import islice

import pytest

from stepwise.data import load_dataset
from stepwise.data.nano import problems as nano
from stepwise.data.nano.gaps import known_gaps
from stepwise.errors import ConfigError
from stepwise.types import normalised

SAMPLE = list(islice(nano.problems("test"), 1000))
EXPRESSION = re.compile(r"(\d+(?: [-+*/] \d+)+) = (\d+), so .* (\d+)\.\n$")


def value(expression: str) -> float:
    """Evaluate "a + b", "a * b / c", ... from left to right."""
    first, *rest = expression.split()
    total = float(first)
    for sign, number in zip(rest[::2], rest[1::2], strict=True):
        n = float(number)
        total = {"+": total + n, "-": total - n, "*": total * n, "/": total / n}[sign]
    return total


def test_every_line_is_an_equation_that_holds_and_the_last_states_the_answer() -> None:
    for problem in SAMPLE:
        for step in problem.steps[:-1]:
            assert step.text.endswith(f" {step.value}.\n")
            if step.skill != "given":
                found = EXPRESSION.search(step.text)
                assert found, step.text
                assert value(found[1]) == int(found[2]) == int(found[3])
        assert problem.steps[-1].text == f"The answer is {problem.answer}."


def test_numbers_in_a_line_were_told_or_worked_out_before() -> None:
    for problem in SAMPLE:
        known = set(re.findall(r"\d+", problem.question)) | {"7", "12", "100"}
        known |= {str(n) for n in range(2, 10)}  # "twice", "a third", ...
        for step in problem.steps[:-1]:
            used = set(re.findall(r"\d+", step.text.split(" = ")[0]))
            assert used <= known, (problem.question, step.text)
            known.add(str(step.value))


def test_sizes_and_skills_vary() -> None:
    lengths = {len(problem.steps) for problem in SAMPLE}
    assert min(lengths) == 2 and max(lengths) == 12
    skills = {step.skill for problem in SAMPLE for step in problem.steps}
    assert len(skills) >= 12
    assert any("years old" in problem.question for problem in SAMPLE)


def test_splits_share_no_question() -> None:
    questions = {
        split: {normalised(p.question) for p in islice(nano.problems(split), 1000)} for split in nano.SPLITS
    }
    for a in nano.SPLITS:
        assert len(questions[a]) == 1000
        for b in nano.SPLITS:
            assert a == b or not questions[a] & questions[b]
    # The same holds whatever the seed, because the question itself says where it belongs.
    others = islice(nano.problems("train", seed=7), 100)
    assert all(nano.split_of(problem.question) == "train" for problem in others)


def test_the_same_seed_draws_the_same_problems() -> None:
    assert load_dataset("nano", limit=20) == SAMPLE[:20]
    assert load_dataset("nano", limit=20, seed=1) != SAMPLE[:20]


@pytest.mark.parametrize("known", [0, 10])
@pytest.mark.parametrize("split", nano.SPLITS)
def test_what_is_known_to_be_skipped_changes_no_problem(
    monkeypatch: pytest.MonkeyPatch, split: str, known: int
) -> None:
    skipping = list(islice(nano.problems(split), 20))
    gaps = list(islice(known_gaps(split), known))
    monkeypatch.setattr(nano, "known_gaps", lambda split: iter(gaps))
    assert list(islice(nano.problems(split), 20)) == skipping


def test_bad_requests_are_named() -> None:
    with pytest.raises(ConfigError, match="split must be one of train"):
        load_dataset("nano", split="exam")
    with pytest.raises(ConfigError, match="dataset must be one of nano, nano-harder, gsm8k"):
        load_dataset("nanno")
    with pytest.raises(ConfigError, match="limit must be at least 1"):
        load_dataset("nano", limit=0)
