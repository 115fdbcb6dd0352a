"""Problems from benchmarks and from files of one's own; no split shares a question with the test split."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwise import load_dataset
from stepwise.data.splits import SHARES, SPLITS, check_unseen, digest, fingerprints, split_of
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
        ('{"question": "q", "answer": NaN}', "expected numbers and texts, got NaN"),
        ('{"question": "q", "answer": true}', "'answer' must be a text, .* not true"),
        ('{"question": "q", "answer": {"value": "3"}}', "'answer' must be a text, "),
        ('{"question": "q", "answer": [["3"], ["4"]]}', "'answer' must be a text, "),
        ('{"question": "q", "answer": [null]}', "'answer' must be a text, "),
        ('{"question": "q", "answer": []}', "'answer' must be a text, "),
        ('{"question": "q", "answer": null}', "'answer' is empty"),
        ('{"question": "q", "solution": "By induction from 1 to 9. QED"}', "'answer' is missing"),
        ('{"question": "q", "question": "r", "answer": "1"}', "the key 'question' is there twice"),
        ('{"question": "q", "answer": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ('{"question": "q \\ud83d", "answer": "1"}', "half of a surrogate pair"),
    ],
)
def test_an_unusable_line_is_named_by_its_number(tmp_path: Path, line: str, message: str) -> None:
    file = write(tmp_path / "mine.jsonl", {"question": "q", "answer": "a"}, line)
    with pytest.raises(ConfigError, match=f"line 2: .*{message}"):
        load_dataset(file)


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_bytes(b'{"question": "q", "answer": "1"}\n{"question": "caf\xe9", "answer": "1"}\n')
    with pytest.raises(ConfigError, match="line 2: expected UTF-8, got the byte 0xe9"):
        load_dataset(str(file))


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"question": "q", "answer": "1"}\n')
    assert [problem.question for problem in load_dataset(str(file))] == ["q"]


def test_golds_are_what_is_marked(tmp_path: Path) -> None:
    file = write(
        tmp_path / "mine.jsonl",
        {"id": None, "question": "a", "answer": "", "solution": r"thus \boxed{5}."},
        {"id": None, "question": "b", "answer": "it points\n#### South"},
        {"id": "x", "question": "c", "answer": ["x", 2, 0.5]},
        {"question": "d", "answer": r"so $\boxed{\frac{1}{2}}$"},
        {"question": "e", "answer": "all primes below 9"},
    )
    problems = load_dataset(file)
    assert [problem.answer for problem in problems] == [
        "5",
        "South",
        "x, 2, 0.5",
        r"\frac{1}{2}",
        "all primes below 9",
    ]
    assert [problem.id for problem in problems] == ["mine-1", "mine-2", "x", "mine-4", "mine-5"]


@pytest.mark.parametrize(
    ("question", "answer"), [("problem", "final_answer"), ("query", "response"), ("prompt", "ground_truth")]
)
def test_rows_as_hubs_name_them(tmp_path: Path, question: str, answer: str) -> None:
    file = write(tmp_path / "mine.jsonl", {question: "q", answer: "7", "source": "s", "n": 3})
    problems = load_dataset("mine", path=file, fields={"question": question, "answer": answer})
    assert [(problem.question, problem.answer) for problem in problems] == [("q", "7")]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Solve x > 3", "Solve x < 3"),
        ("What is 12 + 5?", "What is 12 - 5?"),
        ("一共有多少个苹果？", "一共有多少支笔？"),
        ("Сколько яблок?", "Сколько груш?"),
        ("What is 3:4?", "What is 34?"),
    ],
)
def test_different_questions_stay_different(a: str, b: str) -> None:
    assert normalised(a) != normalised(b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("What is 1 + 1?", "what is 1+1 ?"),
        ("Tom’s “pens” – 3", "tom's 'pens' - 3"),
        ("The points (3,4), (5,6).", "The points (3, 4) , (5, 6)."),
        ("１２ pens", "12  PENS"),
    ],
)
def test_the_same_question_in_other_typography_is_the_same(a: str, b: str) -> None:
    assert normalised(a) == normalised(b) and split_of(a) == split_of(b)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)))
def test_the_split_of_an_ascii_question_depends_on_its_words_and_numbers(question: str) -> None:
    words = re.sub(r"[^a-z0-9.%$]+", " ", question.lower()).strip()
    hashed = hashlib.blake2b(words.encode(), digest_size=8).digest()
    assert digest(question) == int.from_bytes(hashed, "big")


def test_splits_of_ones_own_must_not_share_questions(tmp_path: Path) -> None:
    path = str(tmp_path / "{split}.jsonl")
    write(tmp_path / "test.jsonl", {"question": "What is 1 + 1?", "answer": "2"})
    write(tmp_path / "train.jsonl", {"question": "What is 1 + 2?", "answer": "3"})
    assert load_dataset("mine", path=path, split="train")[0].answer == "3"
    write(tmp_path / "calibration.jsonl", {"question": "what is 1 + 1 ?", "answer": "2"})
    with pytest.raises(ConfigError, match="'calibration-1' of split 'calibration' is also in the test split"):
        load_dataset("mine", path=path, split="calibration")
    with pytest.raises(ConfigError, match="'train-1' of split 'train' is also in the validation split"):
        (tmp_path / "calibration.jsonl").unlink()
        write(tmp_path / "validation.jsonl", {"question": "what is 1 + 2", "answer": "3"})
        load_dataset("mine", path=path, split="train")


def test_a_single_file_is_cut_by_the_hash_of_its_questions(tmp_path: Path) -> None:
    rows = [{"question": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(200)]
    file = write(tmp_path / "mine.jsonl", *rows)
    parts = {split: load_dataset(file, split=split) for split in SPLITS}
    assert all(split_of(p.question) == split for split, part in parts.items() for p in part)
    assert sorted(p.id for part in parts.values() for p in part) == sorted(p.id for p in load_dataset(file))
    assert 70 < len(parts["train"]) < 130 and min(map(len, parts.values())) > 5
    write(tmp_path / "mine.jsonl", *reversed(rows))
    assert {p.question for p in load_dataset(file, split="test")} == {p.question for p in parts["test"]}
    one = write(tmp_path / "one.jsonl", rows[0])
    with pytest.raises(ConfigError, match="this split is empty; the file has too few questions"):
        load_dataset(one, split=next(split for split in SPLITS if split != split_of(rows[0]["question"])))


def test_repeated_lines_are_named(tmp_path: Path) -> None:
    rows = [{"question": text, "answer": "2"} for text in ("1 + 1?", "2 + 2", "1+1")]
    with pytest.raises(ConfigError, match="asks questions twice: 'mine-3' repeats 'mine-1'; keep"):
        load_dataset(write(tmp_path / "mine.jsonl", *rows))


def test_problems_that_a_policy_has_seen_are_refused(tmp_path: Path) -> None:
    rows = [{"question": f"x > {i}", "answer": "2"} for i in range(4)]
    problems = load_dataset(write(tmp_path / "mine.jsonl", *rows))
    seen = {"train": fingerprints(problems[:2]), "validation": fingerprints(problems[2:3])}
    check_unseen(problems[3:], seen)
    with pytest.raises(ConfigError, match=r"seen 2 of the 2 problems .* 'mine-2' \(split 'train'\): 'x > 1'"):
        check_unseen(problems[1:3], seen)
    check_unseen([replace(problems[0], question="x < 0")], seen)


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
    missing = r"put none\.jsonl\.gz or none\.jsonl into .*/here \(STEPWISE_DATA, dataset\.folder\)"
    with pytest.raises(ConfigError, match=missing):
        benchmarks.read(benchmarks.Part(str(tmp_path / "none"), "test", "none"), str(tmp_path / "here"), None)


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz"])
@pytest.mark.parametrize("place", ["", "benchmarks"])
def test_a_local_copy_lies_in_the_folder_or_in_its_benchmarks(
    place: str, ending: str, tmp_path: Path
) -> None:
    file = tmp_path / place / f"gsm8k_test{ending}"
    file.parent.mkdir(exist_ok=True)
    line = (json.dumps({"question": "1 + 1?", "answer": "2"}) + "\n").encode()
    file.write_bytes(gzip.compress(line) if ending.endswith("gz") else line)
    assert [problem.answer for problem in load_dataset("gsm8k", folder=str(tmp_path))] == ["2"]


def test_without_a_network_the_hub_is_not_asked_again_and_what_it_gave_before_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    from stepwise.data import benchmarks

    (tmp_path / "gsm8k").mkdir()
    shutil.copy(Path(FIXTURES) / "gsm8k_test.jsonl", tmp_path / "gsm8k" / "test.jsonl")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.load_dataset(str(tmp_path / "gsm8k"))
    # As if it had come from the hub.
    fetched = tmp_path / "cache" / "openai___gsm8k" / "main"
    shutil.copytree(tmp_path / "cache" / "gsm8k" / "default", fetched)
    for info in fetched.rglob("dataset_info.json"):
        info.write_text(json.dumps({**json.loads(info.read_text()), "config_name": "main"}))

    asked: list[Any] = []

    def no_network(*args: Any, **kwargs: Any) -> None:
        asked.append(args)
        raise OSError("no network")

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_session", no_network)
    monkeypatch.setattr("huggingface_hub.HfApi.hf_hub_download", no_network)
    questions = [problem.question for problem in load_dataset("gsm8k")]
    assert questions == [problem.question for problem in load_dataset("gsm8k", folder=FIXTURES)]
    assert len(asked) == 1 and not datasets.config.HF_HUB_OFFLINE
    with pytest.raises(
        ConfigError, match=r"gsm8k cannot be loaded \(the hub cannot be reached\); to do without"
    ):
        benchmarks.read(benchmarks.BENCHMARKS["gsm8k"].rest, None, None)
