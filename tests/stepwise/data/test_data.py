"""Problems from benchmarks and from files of one's own; no split shares a question with the test split."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwise import load_dataset
from stepwise.data import has_splits
from stepwise.data.splits import SHARES, SPLITS, split_of
from stepwise.errors import ConfigError
from stepwise.types import normalised

FIXTURES = str(Path(__file__).resolve().parents[2] / "data")


def write(file: Path, *rows: Any) -> str:
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(file)


def test_a_json_lines_file_is_read(tmp_path: Path) -> None:
    rows = ({"question": "1 + 1?", "answer": 2}, {"question": "q", "answer": "a", "id": "x", "level": 3})
    file = write(tmp_path / "mine.jsonl", *rows)
    for first, second in (load_dataset(file), load_dataset("mine", path=file)):
        assert (first.id, first.question, first.answer) == ("mine-1", "1 + 1?", "2")
        assert second.id == "x" and second.labels == {"level": "3"}
    assert len(load_dataset(file, limit=1)) == 1
    packed = tmp_path / "mine.jsonl.gz"
    packed.write_bytes(gzip.compress(Path(file).read_bytes()))
    assert load_dataset("mine", path=str(packed)) == load_dataset(file)


def test_fields_may_have_other_names_and_solutions_end_in_answers(tmp_path: Path) -> None:
    file = write(
        tmp_path / "mine.jsonl",
        {"problem": "a", "gold": "so\n#### 1,234"},
        {"problem": "b", "solution": r"thus \boxed{\frac{1}{2}}."},
        {"problem": "c", "gold": ["1", "2"]},
    )
    problems = load_dataset("mine", path=file, fields={"question": "problem", "answer": "gold"})
    assert [problem.answer for problem in problems] == ["1,234", r"\frac{1}{2}", "1, 2"]
    with pytest.raises(ConfigError, match="fields: expected question, answer or id, got 'prompt'"):
        load_dataset("mine", path=file, fields={"prompt": "problem"})


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"question": "q"}', "'answer' is missing .*the row has question.*dataset.fields.answer"),
        ("not json", "expected a JSON object"),
        ("[1]", "expected an object"),
        ('{"question": " ", "answer": "1"}', "'question' is empty"),
        ('{"question": "q", "answer": ""}', "'answer' is empty"),
        ('{"question": 5, "answer": "1"}', "'question' is empty"),
    ],
)
def test_an_unusable_line_is_named_by_its_number(tmp_path: Path, line: str, message: str) -> None:
    file = write(tmp_path / "mine.jsonl", {"question": "q", "answer": "a"}, line)
    with pytest.raises(ConfigError, match=f"line 2: .*{message}"):
        load_dataset(file)


def test_splits_of_ones_own_must_not_share_questions(tmp_path: Path) -> None:
    path = str(tmp_path / "{split}.jsonl")
    write(tmp_path / "test.jsonl", {"question": "What is 1 + 1?", "answer": "2"})
    write(tmp_path / "train.jsonl", {"question": "What is 1 + 2?", "answer": "3"})
    assert load_dataset("mine", path=path, split="train")[0].answer == "3"
    write(tmp_path / "calibration.jsonl", {"question": "what is 1 + 1 ?", "answer": "2"})
    with pytest.raises(ConfigError, match="'calibration-1' of split 'calibration' is also in the test split"):
        load_dataset("mine", path=path, split="calibration")
    assert has_splits("mine", path) and has_splits("gsm8k") and not has_splits("mine", "mine.jsonl")


@pytest.mark.parametrize("name", ["gsm8k", "math500", "math"])
def test_no_split_of_a_benchmark_shares_a_question(name: str) -> None:
    parts = {
        split: {normalised(p.question) for p in load_dataset(name, folder=FIXTURES, split=split)}
        for split in SPLITS
    }
    assert all(parts.values())
    questions = [question for part in parts.values() for question in part]
    assert len(questions) == len(set(questions))


def test_a_test_question_among_the_rest_is_left_out(tmp_path: Path) -> None:
    test = json.loads((Path(FIXTURES) / "gsm8k_test.jsonl").read_text().splitlines()[0])
    rest = (Path(FIXTURES) / "gsm8k_train.jsonl").read_text().splitlines()
    write(tmp_path / "gsm8k_test.jsonl", test)
    twin = {**test, "question": test["question"].upper() + "  "}
    write(tmp_path / "gsm8k_train.jsonl", twin, *rest)
    for split in ("train", "calibration", "validation"):
        questions = {normalised(p.question) for p in load_dataset("gsm8k", folder=str(tmp_path), split=split)}
        assert questions and normalised(test["question"]) not in questions


@given(st.text(min_size=1))
def test_a_question_has_one_split_whatever_its_case_and_spacing(question: str) -> None:
    assert split_of(question) in SHARES
    if question.isascii():
        assert split_of(f"  {question.upper()} ") == split_of(question)


def test_problems_are_filtered_and_drawn_by_seed() -> None:
    everything = load_dataset("math500", folder=FIXTURES)
    levels = {problem.labels["level"] for problem in everything}
    assert len(levels) > 1 and {"level", "subject"} == set(everything[0].labels)
    level = sorted(levels)[0]
    some = load_dataset("math500", folder=FIXTURES, where={"level": [int(level)]})
    assert some == [problem for problem in everything if problem.labels["level"] == level]
    assert load_dataset("math500", folder=FIXTURES, where={"level": {"from": 1, "to": 5}}) == everything
    drawn = [load_dataset("math500", folder=FIXTURES, limit=3, seed=seed) for seed in (0, 0, 1, 2)]
    assert drawn[0] == drawn[1] and (drawn[2] != drawn[0] or drawn[3] != drawn[0])
    with pytest.raises(ConfigError, match="no problem matches .*labels: level="):
        load_dataset("math500", folder=FIXTURES, where={"level": 9})


def test_what_does_not_exist_is_said() -> None:
    with pytest.raises(ConfigError, match="split must be one of train"):
        load_dataset("gsm8k", split="exam")
    with pytest.raises(ConfigError, match="dataset must be one of nano, nano-harder, gsm8k"):
        load_dataset("gsm9k")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_dataset("mine", path="/no/{split}.jsonl")


def test_the_hub_gives_the_same_problems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's library reads a local folder of the same shape as it reads a repository."""
    from stepwise.data import benchmarks

    folder = tmp_path / "gsm8k"
    folder.mkdir()
    (folder / "test.jsonl").write_text((Path(FIXTURES) / "gsm8k_test.jsonl").read_text())
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    part = benchmarks.Part(str(folder), "test", "gsm8k_test")
    records = list(benchmarks.read(part, None, None))
    assert [record.row["question"] for record in records] == [
        problem.question for problem in load_dataset("gsm8k", folder=FIXTURES)
    ]
    with pytest.raises(ConfigError, match="cannot be loaded"):
        benchmarks.read(benchmarks.Part(str(tmp_path / "none"), "test", "none"), None, None)
