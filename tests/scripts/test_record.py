"""Recording nano and scoring routers on what was recorded, as programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip


def test_nano_is_recorded_once_and_replayed(tmp_path: Path) -> None:
    folder = tmp_path / "nano"
    recorded = run("scripts.record", "n=6", f"output={folder}", "+router@routers.confidence=confidence")
    assert recorded.returncode == 0, recorded.stderr
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    again = run("scripts.record", "n=6", f"output={folder}")
    assert again.returncode == 0, again.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    bench = run("scripts.stepbench", f"recording={folder}", "router=confidence")
    assert bench.returncode == 0, bench.stderr
    result = json.loads(bench.stdout.splitlines()[-1])
    assert (result["recording"], result["n"]) == ("nano", 6)
    assert [row["router"] for row in result["rows"]] == ["small", "large", "confidence"]
    assert {row["coverage"] for row in result["rows"]} == {1.0}


def test_in_a_whole_tree_no_router_leaves_the_recording(tmp_path: Path) -> None:
    folder = tmp_path / "nano"
    recorded = run("scripts.record", "n=4", f"output={folder}", "tree=12")
    assert recorded.returncode == 0, recorded.stderr
    bench = run("scripts.stepbench", f"recording={folder}")
    assert bench.returncode == 0, bench.stderr
    assert {row["coverage"] for row in json.loads(bench.stdout.splitlines()[-1])["rows"]} == {1.0}


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (
            ["scripts.stepbench", "recording=/no/such"],
            "/no/such/recording.json is missing",
        ),
        (["scripts.record", "pair=nano", "n=0"], "limit must be at least 1"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], sentence: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
