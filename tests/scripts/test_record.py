"""Recording nano and scoring routers on what was recorded, as programs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from stepwise import load_dataset

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
    assert "are recorded" not in recorded.stdout
    assert re.search(r"nano: \d+ chains are recorded; of the 12 asked for, none is left\.", again.stdout)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    bench = run("scripts.stepbench", f"recording={folder}", "router=confidence")
    assert bench.returncode == 0, bench.stderr
    result = json.loads(bench.stdout.splitlines()[-1])
    assert (result["recording"], result["n"]) == ("nano", 6)
    assert [row["router"] for row in result["rows"]] == ["small", "large", "confidence"]
    assert {row["coverage"] for row in result["rows"]} == {1.0}
    read = run(
        "scripts.stepbench", f"recording={folder}", "dataset=nano", "router=confidence", f"report={tmp_path}"
    )
    assert read.returncode == 0, read.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    replayed = {row["router"]: [setting["accuracy"] for setting in row["settings"]] for row in result["rows"]}
    for router, accuracies in replayed.items():
        assert [p["accuracy"] for p in summary["points"] if p["router"] == router] == accuracies
    assert load_dataset("nano", split="test", limit=1)[0].question in (tmp_path / "rows.jsonl").read_text()
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_a_recording_knows_its_models_by_what_they_read(tmp_path: Path) -> None:
    folder = tmp_path / "nano"
    check = ("scripts.checks.recorded", "n=4", f"recording={folder}")
    recorded = run("scripts.record", "n=4", f"output={folder}", "+router@routers.verified=verified")
    assert recorded.returncode == 0, recorded.stderr
    checked = run(*check)
    assert checked.returncode == 0, checked.stderr
    rows = json.loads(checked.stdout.splitlines()[-1])["rows"]
    assert rows.keys() == {"small reads small", "large reads small", "large reads large"}
    assert all(row["steps"] == 4 and row["largest"] < 1e-3 for row in rows.values())
    # The small model under the large one's name is found out, and is not blamed for its own steps.
    twice = (ROOT / "configs" / "pair" / "nano_middle.yaml").read_text().replace("nano/middle", "nano/small")
    (tmp_path / "twice.yaml").write_text(twice)
    other = run(*check, f"pair={tmp_path / 'twice.yaml'}")
    rows = json.loads(other.stdout.splitlines()[-1])["rows"]
    assert other.returncode == 1 and rows["small reads small"]["largest"] < 1e-3
    assert rows["large reads large"]["mean"] > 0.02 and rows["large reads small"]["mean"] > 0.02
    refused = run(*check, "split=train")
    assert refused.returncode == 2 and "has no problem of nano, 'train'" in refused.stderr


def test_in_a_whole_tree_no_router_leaves_the_recording(tmp_path: Path) -> None:
    folder = tmp_path / "nano"
    recorded = run("scripts.record", "n=4", f"output={folder}", "tree=12")
    assert recorded.returncode == 0, recorded.stderr
    bench = run("scripts.stepbench", f"recording={folder}")
    assert bench.returncode == 0, bench.stderr
    assert {row["coverage"] for row in json.loads(bench.stdout.splitlines()[-1])["rows"]} == {1.0}
    checked = run("scripts.checks.decisive", f"recording={folder}", "longest=12")
    assert checked.returncode == 0, checked.stderr
    accepted = json.loads(checked.stdout.splitlines()[-1])["rows"]["a draft accepted"]
    promised = run(
        "scripts.checks.promises", f"recording={folder}", "router=confidence", "n=4", "trials=3",
        "dataset=nano", f"output={tmp_path / 'promises'}",
    )  # fmt: skip
    assert promised.returncode == 0, promised.stderr
    summary = json.loads((tmp_path / "promises" / "summary.json").read_text())
    assert summary["population"]["n"] == 4
    never = run(
        "scripts.checks.promises", f"recording={folder}", "router=confidence", "router.values=[50]", "n=4",
        "trials=3", "losses=[0.01]", "budgets=[0.9]", f"output={tmp_path / 'never'}",
    )  # fmt: skip
    assert never.returncode == 0, never.stderr
    assert "No threshold can promise loss ≤ 0.01: the least at any of them is" in never.stdout
    lines = json.loads((tmp_path / "never" / "summary.json").read_text())["checks"]
    assert {line["target"] for line in lines if line["best"] is None} == {"max_accuracy_loss"}
    # The large nano model is right on these four, so that another's step can only spoil.
    assert accepted["spoils"][0] > 0 and accepted["saves"][0] == 0 and 0 < accepted["same text"] < 1


def test_scope_knows_recorded_models_by_their_own_chains(tmp_path: Path) -> None:
    folder, questions = tmp_path / "nano", ("dataset=gsm8k", f"dataset.folder={tmp_path}")
    for split, n in (("train", 30), ("test", 6)):
        problems = load_dataset("nano", split=split, limit=n)
        rows = [{"question": p.question, "answer": f"#### {p.answer}"} for p in problems]
        (tmp_path / f"gsm8k_{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for split, more in (("train", ()), ("test", ("+router@routers.confidence=confidence",))):
        recorded = run("scripts.record", *questions, f"split={split}", f"output={folder}", *more)
        assert recorded.returncode == 0, recorded.stderr
    estimated = run(
        "scripts.scope.recorded", f"recording={folder}", *questions, "anchor_count=8", "splits=[train]",
        "alphas=[0]", "+router@seeded.confidence=confidence",
    )  # fmt: skip
    assert estimated.returncode == 0, estimated.stderr
    result = json.loads(estimated.stdout.splitlines()[-1])
    # With alpha 0 the cheapest model is chosen, and then the router decides as it would have.
    assert result["rows"][0]["cost"] < 1 and len(result["seeded"]) > 2
    assert all(row["right_less"] == row["cost_less"] == [0, 0, 0] for row in result["seeded"])
    training = (
        "scripts.train_recorded", f"recording={folder}", *questions, "anchor_count=8", "seeds=[0]", "folds=2",
        "policy.total_steps=256", "policy.num_envs=4", "policy.imitation=null",
        "policy.features=[signals,estimates]", f"output={tmp_path / 'trained'}",
    )  # fmt: skip
    trained = run(*training)
    assert trained.returncode == 0, trained.stderr
    summary = json.loads((tmp_path / "trained" / "summary.json").read_text())
    (result,) = summary["seeds"]
    assert summary["n"] == 6 and len(result["points"]) == 7 and len(result["differences"]) == 6
    assert "{" not in trained.stdout and "np.float64" not in trained.stdout
    for shown in ("seed 0, fold 2 of 2", "APGR (95%)", "FLOPs of the large model", "mean_confidence"):
        assert shown in trained.stdout
    assert trained.stdout.splitlines()[-1].strip() == "python -m scripts.train pair=nano dataset=gsm8k"
    again = run(*training)
    assert again.returncode == 0 and again.stdout.count("256 of 256 steps are done") == 2
    other = run(*training, "policy.look=before")
    assert other.returncode == 2 and "holds a run with another pair or configuration" in other.stderr


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (
            ["scripts.stepbench", "recording=/no/such"],
            "/no/such/recording.json is missing",
        ),
        (["scripts.stepbench", "router=typo"], "Could not find 'router/typo'"),
        (["scripts.stepbench", "router=confidence", "router.values=[high]"], "threshold must be a number"),
        (["scripts.stepbench", "report=/tmp/none"], "report: a recording holds no questions; name"),
        (["scripts.fingerprint", "anchors=20"], "anchors must be one of gsm8k, math"),
        (["scripts.record", "pair=nano", "n=0"], "limit must be at least 1"),
        (["scripts.train_recorded", "anchor_count=20"], "name the recorded data set"),
        (["scripts.train", "policy.total_steps=-5"], "policy.total_steps must be at least 1, not -5"),
        (["scripts.train", "checkpoint_every=0"], "checkpoint_every must be at least 1, not 0"),
        (["scripts.train_recorded", "policy.num_envs=0"], "policy.num_envs must be at least 1, not 0"),
        (["scripts.checks.promises", "recording=recordings/gsm8k-qwen_coder"], "router: name the one"),
        (["scripts.checks.decisive", "longest=1"], "no question is solved by both models in 1 steps"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], sentence: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
