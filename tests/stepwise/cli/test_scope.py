"""From a CSV file to a routed answer, as a newcomer types it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from stepwise.cli.main import main
from tests.stepwise.scope import worlds


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``scope import`` made of a table with three bad rows."""
    base, random = tmp_path_factory.mktemp("scope"), np.random.default_rng(0)
    with (base / "results.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["question", "model", "correct", "tokens", "cost"])
        for problem in worlds.problems(120):
            for model in worlds.ABILITY:
                tokens = 10 * (2 + problem.question.count("plus"))
                right = int(random.random() < worlds.chance(model, problem))
                table.writerow([problem.question, model, right, tokens, tokens * worlds.PRICE[model] * 1e-6])
        table.writerow(["What is 1 plus 1?", "weak", "nan", 7, 0.1])
        table.writerow(["What is 1 plus 1?", "rare", 1, 7, 0.1])
    assert (
        main(["scope", "import", str(base / "results.csv"), "--folder", str(base), "--anchors", "100"]) == 0
    )
    return base


def run(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(["scope", *arguments, "--folder", str(folder)]) == 0
    return capsys.readouterr().out


def test_an_import_says_what_it_read_and_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = run(folder, capsys, "import", str(folder / "results.csv"), "--anchors", "100")
    assert "read 362 rows (long): 121 questions, 4 models" in shown
    assert "left out 1 row, correct must be 0, 1 or a share between: 361" in shown
    assert "wrote 100 anchors and 3 fingerprints" in shown


def test_estimate_choose_and_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    question = worlds.problems(1, seed=5)[0].question
    assert all(model in run(folder, capsys, "estimate", question) for model in worlds.ABILITY)
    assert run(folder, capsys, "choose", question, "--alpha", "0").splitlines()[0] == "weak"
    assert "of" not in run(folder, capsys, "choose", question, "--alpha", "1", "--models", "weak").split()[0]
    promised = run(folder, capsys, "choose", question, "--budget", "1e-4")
    assert promised.startswith("alpha ") and "on the anchors" in promised
    strange = run(folder, capsys, "choose", "Wie heißt die Hauptstadt?", "--alpha", "0")
    assert strange.startswith("strong") and "outside what the anchors cover" in strange
    kept = run(folder, capsys, "choose", "Wie heißt sie?", "--alpha", "0", "--outside", "middling")
    assert kept.startswith("middling")
    report = run(folder, capsys, "report")
    assert "held out" in report and "middling" in report
    assert "what predicts left-out anchors" in report and "difficulty" in report and "ridge" in report


def test_experiments_judge_fewer_anchors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(folder, capsys, "experiments")
    rows = [line.split("│")[1:-1] for line in out.splitlines() if line.count("│") == 5]
    dials = [(row[0].strip(), int(row[1])) for row in rows]
    assert dials[:3] == [("anchors", 25), ("anchors", 50), ("anchors", 80)]
    assert dials[3:] == [("neighbours", k) for k in (1, 2, 5, 10, 20, 40)]
    assert all(0.5 < float(row[2]) <= 1 for row in rows)


def test_bad_input_is_one_sentence_and_code_2(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "columns.csv").write_text("text,model,correct\na,m,1\n")
    known = ["--folder", str(folder)]
    for arguments, message in (
        (["import", str(tmp_path / "empty.csv")], "has no rows"),
        (["import", str(tmp_path / "columns.csv")], "must have a column question"),
        (["import", str(tmp_path / "none.csv")], "cannot be read"),
        (["estimate", "q", "--folder", str(tmp_path / "typo")], "cannot be read as a set of anchors"),
        (["estimate", " ", *known], "question must not be empty"),
        (["estimate", "q", "--models", "typo", *known], "model 'typo' has no fingerprint"),
        (["choose", "q", "--alpha", "2", *known], "alpha must lie in"),
        (["choose", "q", "--budget", "1e-9", *known], "cannot be promised from 100 anchors"),
        (["choose", "q", "--budget", "nan", *known], "budget must be a positive cost"),
        (["choose", "?", "--outside", "typo", *known], "outside must be"),
        (["report", "--models", "typo", *known], "model 'typo' has no fingerprint"),
    ):
        assert main(["scope", *arguments]) == 2, arguments
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error
    assert not (tmp_path / "typo").exists()


def test_a_mistyped_store_is_refused_and_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fingerprint", "list", "--store", str(tmp_path / "typo" / "f.db")]) == 2
    assert "there is no file" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()
