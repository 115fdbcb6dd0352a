"""``stepwise fingerprint run`` on nano: what it writes, and that it asks nothing twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from stepwise import load_dataset
from stepwise.cli.main import main
from stepwise.scope import AnchorSet, FingerprintStore


def test_a_model_is_asked_once_and_again_only_where_something_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    anchors = AnchorSet(load_dataset("nano", split="train", limit=4))
    anchors.save(tmp_path / "anchors.json")
    files = [
        "--anchors", str(tmp_path / "anchors.json"), "--store", str(tmp_path / "fingerprints.db"),
        "--completions", str(tmp_path / "steps.db"), "--models", "small",
    ]  # fmt: skip
    assert not main(["fingerprint", "run", *files])
    assert "small: 4 anchors" in capsys.readouterr().out
    taken = FingerprintStore(tmp_path / "fingerprints.db").get("small")
    assert taken.anchors == anchors.digest and taken.sampling == "greedy" and min(taken.tokens) > 5
    assert taken.prompt_tokens and taken.cached_tokens and taken.price is not None
    assert not main(["fingerprint", "run", *files])
    assert "up to date" in capsys.readouterr().out
    assert not main(["fingerprint", "run", *files, "--temperature", "0.5"])
    assert "sampling changed" in capsys.readouterr().out


def test_what_cannot_be_asked_is_refused_before_anything_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = str(tmp_path / "none.json")
    assert main(["fingerprint", "run", "--anchors", missing, "--store", str(tmp_path / "s.db")]) == 2
    assert "none.json" in capsys.readouterr().err
    assert main(["fingerprint", "run", "--cost", "dollars", "--store", str(tmp_path / "s.db")]) == 2
    assert "has no price" in capsys.readouterr().err
    assert not (tmp_path / "s.db").exists()
