"""The examples run, and say what the documentation says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_a_router_of_ones_own_is_scored_on_the_recording_that_ships() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.my_router"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == ["small", "large", *["from_the_first_doubt"] * 3]
    accuracy = {line[0]: line[line.index("accuracy") + 1] for line in lines[:2]}
    assert accuracy == {"small": "22.7%", "large": "44.3%"}  # docs/real_models.md
