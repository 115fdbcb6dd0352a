"""The programs as they are run: train, calibrate and evaluate, small, end to end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

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
        "n=20", "budget=1.0",
    )  # fmt: skip
    assert calibrated.returncode == 0, calibrated.stderr
    described = json.loads((policy / "policy.json").read_text())
    assert described["calibration"]["n"] == 20
    assert described["calibration"]["thresholds"] == described["card"]["thresholds"]
    refused = run(
        "scripts.calibrate",
        f"policy={policy}",
        f"output={tmp_path}/few",
        store,
        "n=5",
        "max_accuracy_loss=0.01",
    )
    assert refused.returncode == 2 and "cannot be promised from 5 calibration problems" in refused.stderr
    assert json.loads((policy / "policy.json").read_text()) == described, (
        "a refusal leaves a policy as it was"
    )
    evaluated = run(
        "scripts.evaluate", f"output={tmp_path}/evaluate", store, "n=8", f"routers.ppo.router.name={policy}",
        "routers.ppo.values=[0.1,1.0]", "routers.confidence.values=[0.2,1.1]", "routers.random.values=[0.35]",
        "routers.random_query.values=[0.35]", "routers.large_first.values=[2]", "~routers.entropy",
        "~routers.mean_confidence",
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
        (
            ["scripts.calibrate", "router=random"],
            "only a threshold can be calibrated; this router's knob is p",
        ),
        (["scripts.calibrate", "artifact=/no/such"], "router must be one of nano-ppo or the folder"),
        (
            ["scripts.evaluate", "dataset.name=nanno", "output=/tmp"],
            "dataset must be one of nano, nano-harder, gsm8k",
        ),
        (["scripts.train", "pair.name=mega", "output=/tmp"], "pair must be nano or the path"),
        (["scripts.evaluate", "output=/dev/null/x"], "output: /dev/null/x cannot be written"),
        (
            ["scripts.train", "policy=nope"],
            "Could not find 'policy/nope' Available options in 'policy': ppo",
        ),
        (["scripts.train", "sead=3"], "train: Could not override 'sead'."),
        (["scripts.train", "models=[small"], "train: "),
        (["scripts.train", "problems=many"], "train: problems: Value 'many' of type 'str' could not be conv"),
        (["scripts.train", "policy.num_envs=many"], "policy.num_envs: Value 'many' of type 'str' could not"),
        (["scripts.evaluate", "n=three"], "evaluate: n: Value 'three' of type 'str' could not be converted"),
        (["scripts.evaluate", "router=nope"], "evaluate: Could not override 'router'."),
        (
            ["scripts.evaluate", "dataset.name=8", "output=/tmp"],
            "or the path of a JSON Lines file, not '8'.",
        ),
        (
            ["scripts.evaluate", "cluster.address=127.0.0.1:1", "output=/tmp"],
            "no Ray cluster can be joined",
        ),
        (["scripts.evaluate", "cluster=ray", "cluster.workers=many", "output=/tmp"], "cluster: workers"),
        (
            ["scripts.evaluate", "store=redis://127.0.0.1:1/0", "output=/tmp"],
            "redis://127.0.0.1:1/0 cannot be",
        ),
        (["scripts.calibrate", "budget=${nothing}"], "Interpolation key 'nothing' not found"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = run(*(a.replace("output=/tmp", f"output={tmp_path}") for a in arguments))
    assert done.returncode == 2
    assert message in done.stderr and len(done.stderr.splitlines()) == 1


FEW = ("only=[confidence,entropy,ppo]", "routers.confidence.values=[1]", "routers.entropy.values=[0.1]",
       "routers.ppo.values=[0.5]")  # fmt: skip


def rows(folder: Path) -> list[dict[str, Any]]:
    """Rows in a fixed order, without their timing, signals rounded: batches differ in the last digits."""

    def rounded(value: Any) -> Any:
        if isinstance(value, float):
            return float(f"{value:.2g}")
        if isinstance(value, dict):
            return {
                key: rounded(part)
                for key, part in value.items()
                if key not in ("wall_s", "signals", "score", "reason")
            }
        return [rounded(part) for part in value] if isinstance(value, list) else value

    written = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    return sorted(map(rounded, written), key=lambda row: (row["router"], row["problem"]))


@pytest.mark.slow
def test_a_run_is_repeated_from_its_folder(tmp_path: Path) -> None:
    first = run("scripts.evaluate", "n=12", f"output={tmp_path}/a", f"store={tmp_path}/a.db", *FEW)
    assert first.returncode == 0, first.stderr
    again = run(
        "scripts.evaluate", "--config-path", f"{tmp_path}/a", f"output={tmp_path}/b", f"store={tmp_path}/b.db"
    )
    assert again.returncode == 0, again.stderr
    assert rows(tmp_path / "a") == rows(tmp_path / "b") and len(rows(tmp_path / "a")) == 12 * 5
    first_summary, second_summary = (
        json.loads((tmp_path / name / "summary.json").read_text()) for name in "ab"
    )
    assert all(first_summary[key] == second_summary[key] for key in ("problems", "weights"))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["transformers", pytest.param("vllm", marks=pytest.mark.long)])
def test_real_questions_take_the_whole_path(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GSM8K and MATH500 through the engine and the report, with models that cannot answer them."""
    (tmp_path / "benchmarks").symlink_to(ROOT / "tests" / "data")
    monkeypatch.setenv("STEPWISE_DATA", str(tmp_path))
    done = run(
        "scripts.evaluate", "-m", "dataset=gsm8k,math500", f"output={tmp_path}/${{dataset.name}}",
        f"store={tmp_path}/steps.db", "n=4", f"backend={backend}", f"hydra.sweep.dir={tmp_path}/sweep", *FEW,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in ("gsm8k", "math500"):
        summary = json.loads((tmp_path / name / "summary.json").read_text())
        assert summary["dataset"] == name and summary["n"] == 4 and summary["errors"] == 0
        assert all(point["cost"] > 0 for point in summary["points"])
        assert (tmp_path / name / "report.html").stat().st_size > 50_000
    assert summary["points"][0]["breakdown"]["level"]


def test_several_greedy_chains_are_refused(tmp_path: Path) -> None:
    refused = run("scripts.evaluate", "samples=3", f"output={tmp_path}")
    assert refused.returncode == 2 and "samples: 3 chains a problem need temperature > 0" in refused.stderr


@pytest.mark.slow
def test_a_rule_is_calibrated_like_a_policy(tmp_path: Path) -> None:
    """The threshold is one of those given, its cost on the calibration problems is within the budget, and the
    command that uses it is printed."""
    done = run(
        "scripts.calibrate", "router=confidence", "router.values=[3.0,0.2,1.0]", "n=40", "budget=0.7",
        f"output={tmp_path}/out", f"store={tmp_path}/steps.db",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["threshold"] in (0.2, 1.0, 3.0) and summary["cost"] <= 0.7
    assert f"next: stepwise serve --router confidence --threshold {summary['threshold']:g}" in done.stdout
