"""Fingerprints: what is refused, when one is stale, and that none is lost on the way to a file."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwise.errors import ConfigError
from stepwise.scope import AnchorSet, Fingerprint, FingerprintStore, Problem
from tests.stepwise.scope import worlds

GOOD: dict[str, Any] = {"model": "m", "anchor_ids": ["a", "b"], "correct": [1, 0], "tokens": [3, 4]}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model": ""}, "model must not be empty"),
        ({"anchor_ids": []}, "anchor_ids must not be empty"),
        ({"anchor_ids": ["a", "a"]}, "anchor 'a' occurs twice"),
        ({"correct": [1]}, "correct must have one value per anchor: 2, not 1"),
        ({"correct": [1, float("nan")]}, "correct must be in [0, 1], not nan (anchor 'b')"),
        ({"correct": [1, 2]}, "correct must be in [0, 1], not 2.0"),
        ({"correct": ["yes", 1]}, "correct must be numbers"),
        ({"tokens": [3, 0]}, "tokens must be finite and positive, not 0.0 (anchor 'b')"),
        ({"tokens": [3, float("inf")]}, "tokens must be finite"),
        ({"scores": {"safety": [0.5, float("nan")]}}, "safety must be in [0, 1], not nan"),
    ],
)
def test_an_unusable_fingerprint_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Fingerprint(**{**GOOD, **change})
    assert message in str(caught.value)


def test_what_changed_since_it_was_taken() -> None:
    taken = Fingerprint(**GOOD, revision="r1", prompt="p", anchors="x")
    now = {"revision": "r2", "prompt": "p", "anchors": "x", "sampling": "greedy"}
    assert taken.stale(**now) == ["revision"]
    assert taken.stale(revision="r1") == []


def test_an_unknown_objective_is_named() -> None:
    with pytest.raises(ConfigError, match="objective 'safety' is unknown .* which has correct, style"):
        Fingerprint(**GOOD, scores={"style": [1, 1]}).objective("safety")


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_a_store_survives_export_and_import(tmp_path: Path, ending: str) -> None:
    anchors = AnchorSet(worlds.problems(20))
    one = worlds.store(anchors)
    one.add(Fingerprint(**GOOD, scores={"safety": [0.5, 1.0]}, prompt_tokens=[7, 8]))
    one.export(tmp_path / f"all{ending}")
    two = FingerprintStore(tmp_path / "two.db")
    assert two.load(tmp_path / f"all{ending}") == one.models
    assert [two.get(model) for model in two.models] == [one.get(model) for model in one.models]


def test_a_damaged_file_adds_nothing(tmp_path: Path) -> None:
    file = tmp_path / "all.jsonl"
    FingerprintStore(":memory:").export(file)
    good = '{"model": "m", "anchor_ids": ["a"], "correct": [1], "tokens": [1]}\n'
    file.write_text(good + '{"model": "n", "anchor_ids": ["a"], "correct": [7], "tokens": [1]}\n')
    store = FingerprintStore(":memory:")
    with pytest.raises(ConfigError, match="correct must be in"):
        store.load(file)
    assert not len(store)
    for text in ("not json", '{"model": "m"}', "[1]"):
        file.write_text(text)
        with pytest.raises(ConfigError, match="cannot be read"):
            store.load(file)
    with pytest.raises(ConfigError, match="must end in .jsonl or .parquet"):
        store.export(tmp_path / "all.csv")


def test_a_store_is_a_file_that_others_see(tmp_path: Path) -> None:
    one, two = FingerprintStore(tmp_path / "f.db"), FingerprintStore(tmp_path / "f.db")
    before = two.version
    one.add(Fingerprint(**GOOD))
    assert two.models == ("m",) and two.version != before
    one.add(Fingerprint(**{**GOOD, "correct": [0, 0]}))
    assert two.get("m").correct == (0.0, 0.0) and len(two) == 1
    two.remove("m")
    with pytest.raises(ConfigError, match="'m' has no fingerprint; the store has none"):
        one.get("m")
    (tmp_path / "not.db").write_text("x" * 2000)
    with pytest.raises(ConfigError, match="cannot be opened as a store"):
        FingerprintStore(tmp_path / "not.db")


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.integers(1, 10**6))
def test_numbers_come_back_exactly(correct: list[float], tokens: int) -> None:
    ids = [str(i) for i in range(len(correct))]
    one = Fingerprint(model="m", anchor_ids=ids, correct=correct, tokens=[tokens] * len(ids))
    store = FingerprintStore(":memory:")
    store.add(one)
    assert store.get("m") == one


def test_anchors_are_distinct() -> None:
    for twice in ([Problem("a", "x"), Problem("a", "y")], [Problem("a", "1 + 1?"), Problem("b", "1 + 1 ")]):
        with pytest.raises(ConfigError, match="anchors must differ, and 2 have the"):
            AnchorSet(twice)
    with pytest.raises(ConfigError, match="are empty"):
        AnchorSet([])


def test_a_model_has_a_fingerprint_per_anchor_set() -> None:
    store = FingerprintStore(":memory:")
    first, second = (Fingerprint(**GOOD, anchors=digest) for digest in ("aa", "bb"))
    store.add(first, second)
    assert len(store) == 2 and store.models == ("m",)
    assert store.get("m", "aa") == first and store.on("bb") == [second]
    with pytest.raises(ConfigError, match="on the anchor sets aa, bb; say which"):
        store.get("m")
    store.remove("m", "aa")
    assert list(store) == [second] and store.get("m") == second


def test_iteration_is_of_one_moment(tmp_path: Path) -> None:
    one, two = FingerprintStore(tmp_path / "f.db"), FingerprintStore(tmp_path / "f.db")
    one.add(*(Fingerprint(**{**GOOD, "model": name}) for name in "abc"))
    reader = iter(one)
    next(reader)
    two.remove("b")
    assert [taken.model for taken in reader] == ["b", "c"]


def test_a_mistyped_path_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        FingerprintStore(tmp_path / "folder" / "f.db", create=False)
    assert not (tmp_path / "folder").exists()


def test_a_store_keyed_by_model_alone_is_taken_over(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "old.db") as old:
        old.execute("CREATE TABLE fingerprints (model TEXT PRIMARY KEY, value TEXT)")
        row = {"model": "m", "anchor_ids": ["a"], "correct": [1], "tokens": [1], "anchors": "aa"}
        old.execute("INSERT INTO fingerprints VALUES ('m', ?)", (json.dumps(row),))
    old.close()
    for _ in range(2):
        assert FingerprintStore(tmp_path / "old.db").get("m", "aa").correct == (1.0,)
