"""``stepwise bench`` scores routers on a recording."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from stepwise.cli.main import main
from tests.stepwise.evaluation.test_replayed import record
from tests.stepwise.recording.worlds import PROBLEMS


def test_a_rule_is_scored_on_a_recording(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "recordings/gsm8k-qwen_coder", "--threshold", "1.05"]) == 0
    shown = capsys.readouterr().out
    assert "300 problems" in shown and "1.05" in shown and "100.0%" in shown


def test_a_router_of_ones_own_is_scored(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--router", "examples.my_router:FromTheFirstDoubt", "--threshold", "1.05"]
    assert main(["bench", "recordings/gsm8k-qwen_coder", *arguments]) == 0
    assert "from_the_first" in capsys.readouterr().out


def test_a_router_reads_questions_where_the_data_set_is_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path)
    bench = ["bench", str(tmp_path), "--router", "tests.stepwise.evaluation.test_replayed:Reads"]
    assert main([*bench, "--threshold", "9"]) == 2
    assert "a recording holds no questions" in capsys.readouterr().err
    rows = [msgspec.json.encode({"id": p.id, "question": p.question, "answer": p.answer}) for p in PROBLEMS]
    (tmp_path / "sums-test.jsonl").write_bytes(b"\n".join(rows))
    assert main([*bench, "--threshold", "9", "--dataset", str(tmp_path / "sums-{split}.jsonl")]) == 0
    assert "reads" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["recordings/gsm8k-qwen_coder", "--split", "tset"], "its splits are calibration, test, train"),
        (["no/such"], "recording.json is missing"),
        (["recordings/gsm8k-qwen_coder", "--router", "nano-ppo"], "needs a --threshold"),
        (["recordings/gsm8k-qwen_coder", "--router", "typo"], "confidence, entropy, a policy's folder, or m"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments]) == 2
    assert sentence in capsys.readouterr().err
