"""Tables of results: every layout gives the same outcomes, and what cannot be used is named by row."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwise.engine.cost import Price
from stepwise.errors import ConfigError
from stepwise.scope.imported import OUTSIDE_SHARE, anchors_of, fingerprints_of
from stepwise.scope.table import NAMES, Outcome, Results, numbers, read_results


def write(folder: Path, text: str, name: str = "r.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_long_wide_and_json_say_the_same(tmp_path: Path) -> None:
    long = "question,model,correct\nWhat is 1?,m,1\nWhat is 1?,n,0\nWhat is 2?,m,0.5\nWhat is 2?,n,true\n"
    wide = "prompt,m,n\nWhat is 1?,1,0\nWhat is 2?,0.5,true\n"
    scores = [{"question": "What is 1?", "scores": {"m": 1, "n": 0}}]
    scores.append({"question": "What is 2?", "scores": {"m": 0.5, "n": True}})
    lines = "".join(json.dumps(row) + "\n" for row in scores)
    with gzip.open(tmp_path / "r.jsonl.gz", "wt") as file:
        file.write(lines)
    files = (write(tmp_path, long), write(tmp_path, wide, "w.csv"), tmp_path / "r.jsonl.gz")
    first, second, third = (read_results(file) for file in files)
    assert first.outcomes == second.outcomes == third.outcomes
    assert (first.layout, second.layout, first.models) == ("long", "wide", ["m", "n"])


def test_parquet_reads_like_csv(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{"question": "What is 1?", "model": "m", "correct": 1, "tokens": 7, "group": "sums"}]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "r.parquet")
    results = read_results(tmp_path / "r.parquet")
    assert results.outcomes == {"What is 1?": {"m": Outcome(1.0, 7.0)}}
    assert results.groups == {"What is 1?": "sums"}


def test_routerbench_has_costs_and_estimated_tokens(tmp_path: Path) -> None:
    head = "sample_id,prompt,eval_name,org/m,org/m|model_response,org/m|total_cost,oracle_model_to_route_to\n"
    results = read_results(write(tmp_path, head + "a.1,What is 1?,sums,1.0,12345678,0.002,org/m\n"))
    assert results.layout == "RouterBench"
    assert results.outcomes == {"What is 1?": {"org/m": Outcome(1.0, 2.0, 0.002, estimated=True)}}
    anchors = anchors_of(results, 250)
    (taken,), sources = fingerprints_of(results, anchors)
    assert sources == {"org/m": "estimated from responses"} and taken.estimated
    assert taken.price == Price(0.0, 1000.0)


def test_routereval_s_object_is_read_as_wide_rows(tmp_path: Path) -> None:
    content = {
        "model": ["m", "n"],
        "prompt": {"train_prompt": ["What is 1?"], "test_prompt": ["What is 2?"]},
        "data": {"train_score": [[1, 0]], "test_score": [[0.5, 1]], "train_embed": [[0.1]]},
    }
    results = read_results(write(tmp_path, json.dumps(content), "set.json"))
    assert (results.layout, results.rows, results.models) == ("wide", 2, ["m", "n"])
    assert results.outcomes["What is 2?"] == {"m": Outcome(0.5), "n": Outcome(1.0)}
    content["data"]["test_score"] = [[0.5]]  # type: ignore[index]
    with pytest.raises(ConfigError, match="a prompt and a score per model"):
        read_results(write(tmp_path, json.dumps(content), "set.json"))
    with pytest.raises(ConfigError, match="reading a pickle can run code, so pickles are not read"):
        read_results(write(tmp_path, "", "set.pkl"))


def test_costs_stand_in_for_tokens_that_are_missing(tmp_path: Path) -> None:
    text = "question,model,correct,cost\nWhat is 1?,m,1,0.002\nWhat is 2?,m,1,0.004\n"
    results = read_results(write(tmp_path, text))
    (taken,), sources = fingerprints_of(results, anchors_of(results, 5))
    assert sorted(taken.tokens) == pytest.approx([2000.0, 4000.0]) and taken.price == Price(0.0, 1.0)
    assert sources == {"m": "costs in micro-dollars"}
    given, _ = fingerprints_of(results, anchors_of(results, 5), {"m": Price(1.0, 2.0)})
    assert given[0].price == Price(1.0, 2.0)


def test_what_cannot_be_used_is_named_by_row(tmp_path: Path) -> None:
    text = "question,model,correct,tokens\n" + "\n".join(
        (
            "Q1,m,1,5",
            "Q1,m,0,5",
            "q1 ,m,1,5",
            ",m,1,5",
            "Q2,,1,5",
            "Q3,m,2,5",
            "Q4,m,nan,5",
            "Q5,m,1,",
            "Q6,m,1,0",
        )
    )
    results = read_results(write(tmp_path, text))
    assert results.rows == 9 and list(results.outcomes) == ["Q1"]
    assert results.left_out["this model already has an answer to this question"] == [2, 3]
    assert results.left_out["the question is empty"] == [4]
    assert results.left_out["the model is empty"] == [5]
    assert results.left_out["correct must be 0, 1 or a share between"] == [6, 7]
    assert results.refused == {6: "2", 7: "nan"}
    assert results.left_out["tokens is empty"] == [8]
    assert results.left_out["tokens must be above 0"] == [9]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "has no rows"),
        ("question,model,correct\n", "has no rows"),
        ("text,model,correct\na,m,1\n", "must have a column question .*and has text, model, correct"),
        ("question,model,right\na,m,1\n", "must have a column correct"),
        ("question,answer\na,1\n", "must have columns model and correct, or a column per model"),
        ("question,model,correct\na,m,nan\n", "no row .* can be used; row 1: correct must be"),
        ("question,m\na,word\n", "no row .* can be used .*; row 1: m must be"),
    ],
)
def test_an_unusable_table_is_refused_in_a_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_results(write(tmp_path, text))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for file, message in (
        (tmp_path / "none.csv", "none.csv' does not exist"),
        (write(tmp_path, "x", "r.xlsx"), "must end in .csv, .jsonl or .parquet"),
        (write(tmp_path, "{", "r.jsonl"), "cannot be read"),
        (write(tmp_path, "[1]", "s.jsonl"), "line 1 .* must be a JSON object"),
        (write(tmp_path, "x", "r.parquet"), "cannot be read"),
    ):
        with pytest.raises(ConfigError, match=message):
            read_results(file)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.mktemp("any") / "r.csv"
    file.write_bytes(("question,model,correct\n" + text).encode("utf-8", "surrogatepass"))
    try:
        results = read_results(file)
    except ConfigError:
        return
    used = sum(map(len, results.outcomes.values()))
    assert results.rows == used + sum(map(len, results.left_out.values()))


def test_groups_share_the_anchors_and_rare_models_have_no_say() -> None:
    words = ("alpha", "beta", "gamma", "delta", "kappa", "sigma")
    texts = [f"What is {word} {other}?" for word in words for other in words]
    results = Results("long", {text: {"m": Outcome(1.0), "n": Outcome(0.0)} for text in texts})
    results.groups = {text: "a" if i < 12 else "b" for i, text in enumerate(texts)}
    results.outcomes["What is seldom asked?"] = {"rare": Outcome(1.0)}
    anchors = anchors_of(results, 12)
    assert [results.groups[text] for text in anchors.questions].count("a") == 4
    taken, sources = fingerprints_of(results, anchors)
    assert [fingerprint.model for fingerprint in taken] == ["m", "n"]
    assert set(sources.values()) == {"one per answer"} and taken[0].price is None


@pytest.mark.parametrize("column", NAMES["cost"])
def test_a_dollar_column_is_read_under_its_usual_names(tmp_path: Path, column: str) -> None:
    text = f"prompt,model_name,score,{column},foo\nWhat is 1?,m,1,$0.002,x\nWhat is 2?,m,7,0.1,x\n"
    results = read_results(write(tmp_path, text))
    assert results.outcomes["What is 1?"]["m"].cost == 0.002
    assert results.columns == {
        "question": "prompt",
        "model": "model_name",
        "correct": "score",
        "cost": column,
    }
    assert results.unused == ["foo"]
    assert results.left_out == {"score must be 0, 1 or a share between": [2]}


def test_a_wide_table_says_what_it_does_not_use(tmp_path: Path) -> None:
    text = "id,prompt,m,m|total_cost,cost,x|total_cost\n1,What is 1?,1,0.1,9,9\n"
    results = read_results(write(tmp_path, text))
    assert results.models == ["m"] and results.columns == {"question": "prompt"}
    assert results.unused == ["id", "cost", "x|total_cost"]


def test_every_accepted_name_stands_in_the_documentation() -> None:
    page = Path("docs/scope.md").read_text(encoding="utf-8")
    assert not [name for names in NAMES.values() for name in names if f"`{name}`" not in page]


def test_anchors_do_not_depend_on_the_order_of_the_rows() -> None:
    texts = [f"What is {a} times {b}?" for a in range(10, 16) for b in range(20, 30)]
    digests = {
        anchors_of(Results("long", {text: {"m": Outcome(1.0)} for text in order}), 12).digest
        for order in (texts, texts[::-1], texts[7:] + texts[:7])
    }
    assert len(digests) == 1


def test_the_share_of_other_questions_called_outside_is_kept() -> None:
    texts = [f"What is {a} times {b}?" for a in range(10, 20) for b in range(20, 30)]
    strange = [f"{word} " * 9 for word in ("Haus", "Baum", "Stein", "Licht", "Vogel", "Fluss")]
    known = {text: {"m": Outcome(1.0), "n": Outcome(1.0)} for text in texts}
    results = Results("long", {**known, **{text: {"rare": Outcome(1.0)} for text in strange}})
    anchors = anchors_of(results, 60)
    others = set(results.outcomes) - set(anchors.questions)
    assert anchors.provenance[OUTSIDE_SHARE] == pytest.approx(len(strange) / len(others))


def test_row_numbers_are_cut_short() -> None:
    assert numbers([1, 5], cells={5: "nan"}) == "1, 5 ('nan')"
    assert numbers([1, 5]) == "1, 5"
    assert numbers(range(1, 14), most=3) == "1, 2, 3 and 10 more"
