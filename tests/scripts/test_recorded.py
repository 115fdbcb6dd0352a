"""Studies of recorded chains, on a few made-up ones of the same shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from scripts.checks.verification import GradedSolution, agreement
from scripts.recorded import bon_cascade, processbench
from scripts.recorded.processbench import MarkedSolution
from stepwise.errors import ConfigError


def lines(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    import gzip

    file.with_suffix(".jsonl.gz").write_bytes(gzip.compress(file.read_bytes()))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """20 questions with two chains each; a chain is wrong where its second reward is low."""
    questions = [{"problem_id": f"q{i}", "id": f"z{i}", "question": f"question {i}?"} for i in range(20)]
    chains = [
        {
            "problem_id": f"q{i}", "cand": cand, "correct": (i + cand) % 3 != 0, "est_tokens": 100,
            "response": "first\n\nsecond\n\nthird",
            "prm": {"prm": [0.9, 0.1 if (i + cand) % 3 == 0 else 0.95]},
        }
        for i in range(20) for cand in range(3)
    ]  # fmt: skip
    lines(tmp_path / "bon32" / "gsm8k.jsonl", chains)
    lines(tmp_path / "bon32" / "gsm8k_questions.jsonl", questions)
    lines(tmp_path / "zeroeval" / "gsm_questions.jsonl", questions)
    for name, value in (("correct", "1"), ("est_tokens", "50")):
        table = "id,big\n" + "".join(f"z{i},{value}\n" for i in range(20))
        (tmp_path / "zeroeval" / f"gsm_{name}.csv").write_text(table)
    return tmp_path


def study(data: Path, output: Path, **changes: Any) -> dict[str, Any]:
    output.mkdir(exist_ok=True)
    settings: dict[str, Any] = {
        "data": str(data), "reward": "prm", "large": "big", "samples": 2, "thresholds": [0.5],
        "parameters": {"small": 1.0, "judge": 2.0, "large": 100.0},
    }  # fmt: skip
    return bon_cascade.run(**(settings | changes), output=output, seed=0, console=Console(quiet=True))


def test_a_cascade_pays_for_what_it_read_and_takes_the_stronger_answer(data: Path, tmp_path: Path) -> None:
    summary = study(data, tmp_path / "out")
    points = {point["router"]: point for point in summary["points"]}
    assert points["large"]["accuracy"] == 1 and points["prm"]["accuracy"] == 1
    assert points["small"]["accuracy"] == pytest.approx(27 / 40)
    assert points["small"]["cost"] == 2 * 100 and points["large"]["cost"] == 2 * 100 * 50
    escalated = 13 / 40
    assert points["prm"]["cost"] == pytest.approx(2 * (100 + 2 * 100 + escalated * 100 * 50))
    assert summary["auc_wrong_chain"]["prm"] == 1
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"reward": "x"}, "reward must be one of prm"), ({"large": "x"}, "large must be one of big")],
)
def test_what_was_not_recorded_is_said(
    data: Path, tmp_path: Path, change: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        study(data, tmp_path / "out", **change)


@pytest.mark.parametrize(
    ("text", "false"),
    [
        ("so 3 * 4 = 12 and 12 + 1 = 13.", 0), ("so 3 * 4 = 13.", 1), ("$1,000 - $10 = $990", 0),
        (r"\(7 \times 6 = 41\)", 1), ("10 / 3 = 3.33", 0), ("2 + 3 * 4 = 14", 0),
        ("5 - 2 = 3 * 1", 0), ("x + 2 = 5", 0),
    ],
)  # fmt: skip
def test_false_equations_are_counted(text: str, false: int) -> None:
    assert processbench.false_equations(MarkedSolution("q", (text, "then"), None)).tolist() == [false, false]


def test_a_wrong_step_stays_wrong() -> None:
    assert MarkedSolution("q", ("a", "b", "c"), 1).labels.tolist() == [False, True, True]
    assert not MarkedSolution("q", ("a", "b"), None).labels.any()


def test_words_are_judged_by_models_that_never_saw_the_question() -> None:
    solutions = [
        MarkedSolution(f"question {i}", ("a fine start", "oops" if i % 2 else "good"), 1 if i % 2 else None)
        for i in range(40)
    ]
    scores = processbench.words(solutions, 4, 0)
    assert (
        bon_cascade.auc(
            np.concatenate(scores).tolist(), np.concatenate([s.labels for s in solutions]).tolist()
        )
        == 1
    )
    interval = processbench.interval(scores, solutions, 0)
    assert [interval[name] for name in ("auc", "low", "high")] == pytest.approx([1, 1, 1])


def test_agreement_counts_both_kinds_of_difference() -> None:
    solutions = [
        GradedSolution("a", "#### 5", "5", True),
        GradedSolution("b", "#### 5", "6", True),
        GradedSolution("c", "#### 7", "7", False),
    ]
    counts, differing = agreement("some", iter(solutions), workers=2)
    assert (counts["n"], counts["agree"], counts["only_we_say_right"], counts["only_they_say_right"]) == (
        3,
        1,
        1,
        1,
    )
    assert [solution["id"] for solution in differing] == ["b", "c"] and counts["agreement"] == pytest.approx(
        1 / 3
    )
