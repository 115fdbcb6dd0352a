"""``stepwise bench`` scores routers on a recording."""

from __future__ import annotations

import pytest

from stepwise.cli.main import main


def test_a_rule_is_scored_on_a_recording(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "recordings/gsm8k-qwen_coder", "--threshold", "1.05"]) == 0
    shown = capsys.readouterr().out
    assert "300 problems" in shown and "1.05" in shown and "100.0%" in shown


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["no/such"], "recording.json is missing"),
        (["recordings/gsm8k-qwen_coder", "--router", "nano-ppo"], "needs a --threshold"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments]) == 2
    assert sentence in capsys.readouterr().err
