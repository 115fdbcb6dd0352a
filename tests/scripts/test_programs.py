"""The programs as they are run: train, calibrate and evaluate, small, end to end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=500
    )


@pytest.mark.slow
def test_a_policy_is_trained_calibrated_and_evaluated(tmp_path: Path) -> None:
    store = f"store={tmp_path}/steps.db"
    trained = run(
        "scripts.train", f"output={tmp_path}/train", store, "problems=40", "reference_problems=10",
        "validation_problems=10",
        "policy.total_steps=512", "policy.num_envs=16", "policy.ppo.n_steps=16", "policy.ppo.batch_size=64",
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    assert list((tmp_path / "train" / "tensorboard").rglob("events*"))
    policy = tmp_path / "train" / "policy"
    calibrated = run(
        "scripts.calibrate", f"artifact={policy}", f"output={tmp_path}/calibrate", store,
        "n=20", "budget=1.0", "thresholds=[0.1,1.0,1000.0]",
    )  # fmt: skip
    assert calibrated.returncode == 0, calibrated.stderr
    assert json.loads((policy / "policy.json").read_text())["calibration"]["n"] == 20
    evaluated = run(
        "scripts.evaluate", f"output={tmp_path}/evaluate", store, "n=12", f"routers.ppo.router.name={policy}",
        "routers.ppo.values=[0.1,1.0]", "~routers.entropy", "~routers.mean_confidence",
    )  # fmt: skip
    assert evaluated.returncode == 0, evaluated.stderr
    summary = json.loads((tmp_path / "evaluate" / "summary.json").read_text())
    assert {p["router"] for p in summary["points"]} == {
        "small", "large", "random", "random_query", "large_first", "small_first", "confidence", "ppo",
    }  # fmt: skip
    assert summary["versions"]["stepwise"] and (tmp_path / "evaluate" / "config.yaml").exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["scripts.calibrate", "budget=1.5"], "budget must lie in (0, 1]"),
        (["scripts.calibrate", "max_accuracy_loss=0"], "max_accuracy_loss must lie in (0, 1)"),
        (["scripts.calibrate", "artifact=/no/such"], "router must be one of nano-ppo or the folder"),
        (
            ["scripts.evaluate", "dataset.name=nanno", "output=/tmp"],
            "dataset must be one of nano, nano-harder, gsm8k",
        ),
        (["scripts.train", "pair.name=mega", "output=/tmp"], "pair must be one of nano"),
        (["scripts.evaluate", "output=/dev/null/x"], "output: /dev/null/x cannot be written"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = run(*(a.replace("output=/tmp", f"output={tmp_path}") for a in arguments))
    assert done.returncode == 2
    assert message in done.stderr and "Traceback" not in done.stderr
