"""Training the language models: it learns, it resumes, it leaves ordinary checkpoints."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(output: Path, tokens: int) -> list[dict[str, float]]:
    done = subprocess.run(
        [
            sys.executable, "-m", "scripts.train_nano", f"output={output}", "only=small",
            f"tokens.small={tokens}", "bridge.small=0", "polish.small=0", "vocab_size=400",
            "batch_tokens=2048", "checkpoint_every=20", "short_first=0", "test_problems=5",
            "tokenizer_problems=500",
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "of chains have every step right" in done.stdout
    return [json.loads(line) for line in (output / "small" / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_model_learns_and_continues_where_it_stopped(tmp_path: Path) -> None:
    first = run(tmp_path, 80_000)
    assert first[-1]["loss"] < first[0]["loss"]
    both = run(tmp_path, 160_000)
    assert both[: len(first)] == first
    assert both[len(first)]["step"] == first[-1]["step"] + 20
    from stepwise.backends import checkpoint

    assert checkpoint.parameters(str(tmp_path / "small")) > 40_000
