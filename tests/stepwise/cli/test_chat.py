"""A conversation on the terminal: questions are answered, commands change who answers, mistakes are said."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from stepwise.cli.main import main
from tests.servers import free_port

QUESTION = "Ben planted 83 trees and lost 47 of them. How many trees does Ben have?"


def test_the_knob_changes_who_writes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        "/router small",
        QUESTION,
        "/router large",
        QUESTION,
        "/budget",
        "/router nobody",
        "/quit",
        QUESTION,
    ]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    assert main(["chat"]) == 0
    out = capsys.readouterr().out
    first, second = out.split("cost:")[:2]
    assert " small " in first and " large " not in first.split(">")[-1]
    assert " large " in second
    assert out.count("answer: 36") >= 1 and out.count("cost:") == 2, "what follows /quit is not asked"
    assert "/budget takes a number, not ''." in out
    assert "nobody" in out


def test_every_knob_turns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command puts the knob where it says, and takes the others back."""
    said = {
        "/budget 0.2": "nano-ppo, budget 0.2",
        "/threshold 0.6": "nano-ppo, threshold 0.6",
        "/loss 0.02": "nano-ppo, max_accuracy_loss 0.02",
        "/router confidence 1.2": "confidence, threshold 1.2",
        "/router large": "large",
        "/buget 0.2": "there is no /buget.",
        "/threshold much": "/threshold takes a number, not 'much'.",
        "/router confidence": "router 'confidence' is not calibrated",
        "/help": "/budget 0.3      at most 30%",
    }
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(said)))
    assert main(["chat"]) == 0
    answers = capsys.readouterr().out.split("> ")[1:]
    assert len(answers) == len(said) + 1
    for answer, (command, expected) in zip(answers, said.items(), strict=False):
        assert answer.startswith(expected), command


def test_the_input_may_end(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(["chat", "--router", "small"]) == 0
    said = capsys.readouterr().out
    assert "each line is a question of its own" in said
    assert "know only sums in stories" in " ".join(said.split())


def test_a_router_that_cannot_be_is_said_at_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", "--router", "confidence"]) == 2
    assert "--threshold" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["solve", "chat"])
def test_a_server_that_is_gone_is_named_at_once_and_given_the_time_of_a_restart(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    patience = {"restart_s": 0.2, "handover_s": 0.05, "first_wait_s": 0.01}
    backend = {"name": "chat", "base_url": url, "patience": patience}
    file = tmp_path / "gone.yaml"
    pair = {"name": "gone", "prompt": "{question}", "models": [{"name": "small", "backend": backend}]}
    file.write_text(json.dumps(pair))
    monkeypatch.setattr("sys.stdin", io.StringIO("1 + 1?"))
    asked = ["1 + 1?"] if command == "solve" else []
    ended = main([command, *asked, "--pair", str(file), "--router", "small", "--cost", "tokens"])
    assert ended == (1 if command == "solve" else 0)
    out = " ".join(capsys.readouterr().out.split())
    gone = f"{url} failed: Cannot connect to host (Connection refused)."
    assert f"small does not answer: {gone} Trying for up to 0.2 s more." in out
    assert f"stopped before it gave an answer: {gone}" in out
