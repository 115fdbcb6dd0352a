"""From a CSV file to a routed answer, as a newcomer types it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from stepwise.cli.main import main
from stepwise.cli.scope_files import dollars
from stepwise.scope import Scope
from stepwise.scope.novelty import trust
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
    assert "columns: question=question, model=model, correct=correct, tokens=tokens, cost=cost\n" in shown
    assert "left out 1 row: correct must be 0, 1 or a share between: 361 ('nan')" in shown
    assert "unlike the anchors: 4.8% of the table's other questions" in shown
    assert f"wrote 100 anchors and 3 fingerprints to {folder} (in the place of what was there)" in shown


def test_a_small_table_is_told_what_it_is_worth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"what is {i} plus {i},m,{i % 2},9" for i in range(49)]
    (tmp_path / "few.csv").write_text("\n".join(["question,model,correct,tokens", *rows]))
    shown = run(tmp_path, capsys, "import", str(tmp_path / "few.csv"))
    assert "anchors: 49 questions, all that half of the models have answered, and not 250" in shown
    assert "With fewer than 50 anchors estimates are guesses" in shown


def test_a_choice_can_be_read_by_programs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    question = worlds.problems(1, seed=5)[0].question
    choice = json.loads(run(folder, capsys, "choose", question, "--budget", "1e-4", "--json"))
    plain = run(folder, capsys, "choose", question, "--budget", "1e-4").splitlines()
    assert choice["model"] == plain[1] and not choice["outside"]
    expected = {estimate["model"]: estimate for estimate in choice["estimates"]}
    assert set(expected) == set(worlds.ABILITY)
    assert f"expected right {expected[choice['model']]['p_correct']:.0%}" in plain[2]


def test_estimate_choose_and_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    question = worlds.problems(1, seed=5)[0].question
    assert all(model in run(folder, capsys, "estimate", question) for model in worlds.ABILITY)
    assert run(folder, capsys, "choose", question, "--alpha", "0").splitlines()[0] == "weak"
    assert "of" not in run(folder, capsys, "choose", question, "--alpha", "1", "--models", "weak").split()[0]
    promised = run(folder, capsys, "choose", question, "--budget", "1e-4")
    assert promised.startswith("alpha ") and "on the anchors" in promised
    strange = run(folder, capsys, "choose", "Wie heißt die Hauptstadt?", "--alpha", "0")
    assert strange.startswith("strong")
    assert "This question is unlike the anchors, so the best single model answers: strong, about $" in strange
    assert "The nearest anchor is 'What is " in strange
    kept = run(folder, capsys, "choose", "Wie heißt sie?", "--alpha", "0", "--outside", "middling")
    assert kept.startswith("middling")
    report = run(folder, capsys, "report")
    assert "held out" in report and "middling" in report and "unlike the anchors: 4.8%" in report
    assert "what predicts left-out anchors" in report and "difficulty" in report and "ridge" in report


def test_outside_the_anchors_a_budget_is_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("choose", "Wie heißt sie?", "--budget", "2.5e-5")
    lines = run(folder, capsys, *arguments).splitlines()
    assert lines[0] == "weak", "no alpha is shown: it decided nothing"
    said = (
        "This question is unlike the anchors, so the best single model within the budget answers: weak, about"
    )
    assert lines[2].startswith(said)
    over = run(folder, capsys, *arguments, "--outside", "strong")
    assert "the model that --outside names answers: strong" in over and "more than the budget." in over
    kept = run(folder, capsys, *arguments, "--outside", "weak")
    assert "more than the budget" not in kept


def test_a_question_that_is_rather_far_says_how_much_the_estimates_count(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = [problem.question for problem in worlds.problems(400, seed=3)]
    believed = dict(zip(questions, trust(Scope.open(folder).novelty(questions)), strict=True))
    far = next(question for question in questions if 0 < believed[question] < 1)
    near = next(question for question in questions if believed[question] == 1)
    for command in ("choose", "estimate"):
        assert f"That is rather far: estimates count {believed[far]:.0%}" in run(folder, capsys, command, far)
        assert "rather far" not in run(folder, capsys, command, near)


def test_the_report_has_every_model_alone_and_no_row_twice(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(folder, capsys, "report")
    rows = [line.split("│")[1:-1] for line in report.split("routed, held out")[1].splitlines() if "│" in line]
    results = [(right.strip(), cost.strip()) for _, right, cost in rows]
    assert [row[0].strip() for row in rows[:3]] == ["always middling", "always strong", "always weak"]
    assert len(set(results[3:])) == len(results[3:]) >= 2
    assert not any("e-" in cost for _, cost in results)
    assert "$ per 1,000 questions" in report and "$ per million tokens" in report
    assert "Lower log loss is better" in report


def test_a_table_without_costs_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = [problem.question for problem in worlds.problems(60)]
    (tmp_path / "r.csv").write_text(
        "question,model,correct\n" + "".join(f"{text},only,1\n" for text in texts)
    )
    shown = run(tmp_path, capsys, "import", str(tmp_path / "r.csv"))
    remedy = "name the table's dollar column `cost` and import it again, or give list prices with --pair"
    assert "60 questions, 1 model\n" in shown and "1 fingerprint to" in shown
    assert remedy in shown and "There is one model only" in shown
    assert main(["scope", "choose", texts[0], "--budget", "1", "--folder", str(tmp_path)]) == 2
    assert f"model 'only' has no price: {remedy}." in capsys.readouterr().err
    (tmp_path / "prices.yaml").write_text("models: [{name: only, price: {input: 1, output: 2}}]")
    chosen = run(tmp_path, capsys, "choose", texts[0], "--pair", str(tmp_path / "prices.yaml"))
    assert chosen.startswith("only\n") and "There is one model only" in chosen


@pytest.mark.parametrize(("amount", "shown"), [(0, "$0.00"), (0.000919, "$0.00092"), (0.1, "$0.10"),
                                               (3.14159, "$3.14"), (12000.4, "$12,000")])  # fmt: skip
def test_dollars_are_plain_decimals(amount: float, shown: str) -> None:
    assert dollars(amount) == shown


def test_values_are_checked_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = ["--folder", str(tmp_path)]
    for arguments, message in (
        (["--alpha", "2"], "alpha must lie in [0, 1], not 2"),
        (["--budget", "-1"], "budget must be a positive cost per question (in dollars), not -1"),
        (["--budget", "1", "--delta", "1"], "delta must lie in"),
    ):
        assert main(["scope", "choose", "q", *arguments, *nothing]) == 2
        assert message in capsys.readouterr().err


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
    (tmp_path / "misnamed.csv").write_text("question,llm_id,correct\nWhat is 1?,m,1\n")
    known = ["--folder", str(folder)]
    for arguments, message in (
        (["import", str(tmp_path / "misnamed.csv")], "it has no column model"),
        (["import", str(tmp_path / "empty.csv")], "has no rows"),
        (["import", str(tmp_path / "columns.csv")], "must have a column question"),
        (["import", str(tmp_path / "none.csv")], "none.csv' does not exist"),
        (
            ["estimate", "q", "--folder", str(tmp_path / "typo")],
            "has no anchors.json: run `stepwise scope import ",
        ),
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
    assert "f.db' does not exist" in capsys.readouterr().err
    assert not (tmp_path / "typo").exists()
