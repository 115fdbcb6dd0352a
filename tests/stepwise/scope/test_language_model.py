"""A language model as the estimator: what it is asked, how it is read, what it is paid for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwise.backends.scripted import ScriptedBackend
from stepwise.errors import ConfigError
from stepwise.scope import AnchorSet, Scope
from stepwise.scope.estimators import LanguageModel
from stepwise.scope.hindsight import ModelTeacher, TemplateTeacher
from stepwise.scope.prompt import Example, ask, read, write
from stepwise.scope.reward import reward
from tests.stepwise.scope import worlds

EXAMPLES = [Example("1 + 1?", True, 12), Example("17 * 23?", False, 80)]


def test_the_prompt_has_its_sections_in_order() -> None:
    prompt = ask("2 + 2?", "m", EXAMPLES)
    sections = [
        "Task:", "Target model: m", "Example 1:", "Performance: {len: 12, correct: yes}", "Example 2:",
        "Performance: {len: 80, correct: no}", "Target question: 2 + 2?", "Requirements:", "Output format:",
        "Analysis:", "Predicted Performance:",
    ]  # fmt: skip
    places = [prompt.index(section) for section in sections]
    assert places == sorted(places)


def test_the_released_prompt_has_its_headings_in_order_and_the_nearest_example_first() -> None:
    prompt = ask("2 + {2}?", "m", EXAMPLES, "released")
    headings = [
        "### Task\n", "### Target Model\nm\n\nExample 1:\nQuestion: 1 + 1?\n",
        "Performance: {len: 12, correct: yes}\n\n",
        "Example 2:\n", "### Target Question\n2 + {2}?\n\n", "### Prediction Requirements\n",
        "### Output Format (STRICT)\nAnalysis: [", "under 800 words",
        "\nPredicted Performance: {len: [integer], correct: [yes/no]}\n\n", "### Important Notes\n",
    ]  # fmt: skip
    places = [prompt.index(heading) for heading in headings]
    assert places == sorted(places) and prompt.endswith("### Output:")
    assert "2 anchor questions" in prompt
    with pytest.raises(ConfigError, match="form must be released or short, not 'long'"):
        ask("2 + 2?", "m", EXAMPLES, "long")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "**Analysis:** as **before**\n**Predicted Performance:** {len: 1234, correct: no}",
        "Analysis**: as before\n**Predicted Performance**: `{len: 1,234, correct: no}`",
        "__Analysis__: as before\n__Predicted Performance__: {len: [1234], correct: [no]}",
        "### Analysis: as before\npredicted performance: {`len`: 1_234, `correct`: **No**}",
        "Analysis: the first {len: 9, correct: yes}\npredicted Performance:\nlen = 1 234; correct = no",
    ],
)
def test_markup_and_separators_are_tolerated(text: str) -> None:
    answer = read(text)
    assert answer is not None and (answer.correct, answer.tokens) == (False, 1234)
    assert answer.analysis.startswith(("as", "the first")) and not answer.analysis.endswith("*")


def test_a_length_that_is_none_is_refused() -> None:
    assert read(write("a", True, 10**7)) is not None
    for tokens in (10**7 + 1, int("9" * 400)):
        assert read(write("a", True, tokens)) is None
    assert read("Predicted Performance: {len: 12, correct: yes/no}") is None


@given(
    st.text(max_size=40).filter(lambda text: "Predicted" not in text), st.booleans(), st.integers(1, 10**6)
)
def test_what_is_written_is_read_back(analysis: str, correct: bool, tokens: int) -> None:
    answer = read(write(analysis, correct, tokens))
    assert answer is not None and (answer.correct, answer.tokens) == (correct, tokens)


@pytest.mark.parametrize(
    "text",
    [
        "", "I think it is right.", "Predicted Performance: {len: 0, correct: yes}",
        "Predicted Performance: {len: [integer], correct: [yes/no]}", "Predicted Performance: {len: 12}",
        "Predicted Performance: {len: 12, correct: yes}\nPredicted Performance: {len: many, correct: no}",
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_nothing(text: str) -> None:
    """Also when an earlier block could: the last one counts."""
    assert read(text) is None


def test_the_last_block_counts() -> None:
    answer = read(write("first", True, 10) + "\nNo:\n" + write("then", False, 20))
    assert answer is not None and not answer.correct and answer.tokens == 20


@pytest.mark.parametrize(
    "text, expected",
    [
        ("nonsense", 0.0),
        (write("a", True, 400), 2.0),
        (write("a", False, 400), 1.0),
        (write("a", True, 500), 2.0),  # within tau = max(100, 400 / 4)
        (write("a", True, 550), 1.5),
        (write("a", True, 601), 1.0),
        (write("a", False, 5000), 0.0),
    ],
)
def test_the_reward_is_gated_by_the_format(text: str, expected: float) -> None:
    assert reward(text, True, 400) == pytest.approx(expected, abs=0.011)


def estimator(script: str | None = None, **settings: Any) -> LanguageModel:
    """A model that says what the majority of its examples did, or what a script says."""

    def answer(prompt: str) -> str:
        right = prompt.count("correct: yes}") > prompt.count("correct: no}")
        return script if script is not None else write("as the examples", right, 90)

    return LanguageModel(ScriptedBackend(answer), **settings)


def test_its_answers_become_estimates_with_their_explanation() -> None:
    anchors = AnchorSet(worlds.problems(60))
    one = estimator(samples=3)
    scope = Scope(anchors=anchors, fingerprints=worlds.store(anchors), estimator=one)
    weak, strong = scope.estimate("What is 10 plus 11 plus 12 plus 13 plus 14?", ["weak", "strong"])
    assert weak.p_correct < strong.p_correct and strong.p_correct > 0.7
    assert strong.tokens == 90 and strong.interval[0] < 90 < strong.interval[1]
    assert strong.explanation == "as the examples"
    assert one.counts.asked == 6 and one.counts.dropped == 0
    assert one.counts.prompt_tokens > 1000 and one.counts.completion_tokens > 100


def test_unreadable_answers_are_dropped_and_counted() -> None:
    anchors = AnchorSet(worlds.problems(60))
    one = estimator("I cannot say.", samples=4)
    scope = Scope(anchors=anchors, fingerprints=worlds.store(anchors), estimator=one)
    found = scope.estimate("What is 10 plus 11?", ["strong"])[0]
    assert one.counts.asked == one.counts.dropped == 4
    strong = worlds.fingerprint("strong", anchors)
    assert found.p_correct == pytest.approx(sum(strong.correct) / 60, abs=0.02)  # the mean stands in
    assert found.tokens > 20


def test_an_anchor_is_never_its_own_example() -> None:
    anchors = AnchorSet(worlds.problems(12))
    prompts: list[str] = []

    def answer(prompt: str) -> str:
        prompts.append(prompt)
        return write("a", True, 9)

    one = LanguageModel(ScriptedBackend(answer), form="short", samples=1, k=3)
    _ = Scope(anchors=anchors, fingerprints=worlds.store(anchors, ("weak",)), estimator=one).known
    one.held_out()
    assert len(prompts) == 12
    for prompt in prompts:
        head, target = prompt.split("Target question: ")
        assert head.count("Question: ") == 3 and f"Question: {target.splitlines()[0]}\n" not in head


def test_settings_are_checked() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"samples": 0}, "samples"),
        ({"k": -1}, "k must be at least 0"),
    ]
    for settings, message in wrong:
        with pytest.raises(ConfigError, match=message):
            estimator(**settings)
    with pytest.raises(ConfigError, match="template must contain"):
        LanguageModel(ScriptedBackend(lambda text: ""), template="no place")


def test_teachers_explain_without_an_outcome_of_their_own() -> None:
    cases = [("2 + 2?", "m", EXAMPLES, True, 46), ("99 * 99?", "m", EXAMPLES, False, 100)]
    one, two = TemplateTeacher().explain(cases)
    assert one == "1 of 2 right. This one is as long and easy enough."
    assert two == "1 of 2 right. This one is longer and too hard."
    teacher = ModelTeacher(ScriptedBackend(lambda prompt: " It is hard.\nMore"))
    assert teacher.explain(cases) == ["It is hard.", "It is hard."]
