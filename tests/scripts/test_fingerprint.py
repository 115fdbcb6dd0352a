"""Fingerprints as they are taken: in one process and on a cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stepwise.scope import Fingerprint, FingerprintStore

ROOT = Path(__file__).resolve().parents[2]


def taken(folder: Path, *overrides: str) -> list[Fingerprint]:
    """Those of nano's small and large model on six anchors."""
    command = [sys.executable, "-m", "scripts.fingerprint", f"output={folder}", f"store={folder}/steps.db",
               f"fingerprints={folder}/prints.db", "models=[small,large]", "anchors.recipe.n=6",
               "anchors.recipe.problems.limit=40", *overrides]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    store = FingerprintStore(folder / "prints.db", create=False)
    return [store.get(model) for model in ("small", "large")]


@pytest.mark.slow
def test_workers_on_a_cluster_take_the_fingerprints_of_one_process(tmp_path: Path) -> None:
    here = taken(tmp_path / "here")
    assert taken(tmp_path / "there", "cluster=ray", "cluster.workers=2") == here
    assert [len(fingerprint.correct) for fingerprint in here] == [6, 6]
