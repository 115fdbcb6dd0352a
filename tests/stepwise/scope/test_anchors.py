"""Choosing anchors: they cover, they repeat, they are what they were."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from stepwise.errors import ConfigError
from stepwise.scope import AnchorSet, Problem, choose_anchors
from stepwise.scope.recipes import recipe
from tests.stepwise.scope import worlds


def test_every_kind_of_question_gets_an_anchor() -> None:
    kinds = {"cook": "How many eggs does the cake recipe need", "drive": "How far does the red car drive on"}
    pool = [Problem(f"{kind}-{i}", f"{text} day {i}?") for kind, text in kinds.items() for i in range(40)]
    pool = pool[:45]  # 40 of one kind, 5 of the other
    chosen = choose_anchors(pool, 6)
    assert {problem.id.split("-")[0] for problem in chosen} == set(kinds)


def test_the_choice_depends_on_its_arguments_alone() -> None:
    pool = worlds.problems(120)
    one, two = (choose_anchors(pool, 20, strata=[len(p.question) > 40 for p in pool]) for _ in range(2))
    assert one.digest == two.digest and len(one) == 20
    assert one.provenance["chosen_from"] == 120


def test_strata_get_places_in_proportion() -> None:
    pool = worlds.problems(100)
    strata = ["easy"] * 60 + ["hard"] * 40
    chosen = choose_anchors(pool, 10, strata=strata)
    of = dict(zip([problem.id for problem in pool], strata, strict=True))
    assert Counter(of[problem.id] for problem in chosen) == {"easy": 6, "hard": 4}


def test_equal_questions_count_once_and_too_many_places_are_refused() -> None:
    pool = [Problem(str(i), "the same question") for i in range(5)] + worlds.problems(3)
    assert len(choose_anchors(pool, 4)) == 4
    with pytest.raises(ConfigError, match=r"n must lie in \[1, 4\]"):
        choose_anchors(pool, 5)
    with pytest.raises(ConfigError, match="one label per problem"):
        choose_anchors(pool, 2, strata=["a"])


def test_a_file_of_anchors_is_whole_or_refused(tmp_path: Path) -> None:
    anchors = choose_anchors(worlds.problems(30), 5, provenance={"dataset": "sums"})
    anchors.save(tmp_path / "a.json")
    again = AnchorSet.load(tmp_path / "a.json")
    assert again.digest == anchors.digest and again.provenance == anchors.provenance
    text = (tmp_path / "a.json").read_text()
    (tmp_path / "a.json").write_text(text.replace("What is", "What was", 1))
    with pytest.raises(ConfigError, match="was changed after it was written"):
        AnchorSet.load(tmp_path / "a.json")
    (tmp_path / "a.json").write_text(text[:40])
    with pytest.raises(ConfigError, match="cannot be read as a set of anchors"):
        AnchorSet.load(tmp_path / "a.json")


def test_a_recipe_reads_any_fields(tmp_path: Path) -> None:
    file = tmp_path / "math.jsonl"
    rows = [
        f'{{"problem": "{p.question}", "solution": "so \\\\boxed{{{p.answer}}}", "level": {i % 2}}}'
        for i, p in enumerate(worlds.problems(20))
    ]
    file.write_text("\n".join(rows))
    anchors = recipe(str(file), 6, question="problem", answer="solution", stratum="level")
    assert len(anchors) == 6 and all(problem.answer.isdigit() for problem in anchors)
    assert anchors.provenance["strata"] == {"0": 3, "1": 3}
    with pytest.raises(ConfigError, match="has no field 'question'"):
        recipe(str(file), 6)
    with pytest.raises(ConfigError, match="cannot be read as JSON Lines"):
        recipe(str(tmp_path / "none.jsonl"), 6)
