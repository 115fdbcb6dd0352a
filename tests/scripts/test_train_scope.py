"""Training an estimator, small, from fingerprints to the three measured stages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file
from transformers.trainer_callback import TrainerState

from scripts.scope.stages import commoner, differences, figures, outcomes
from scripts.scope.trainers import Datum, last_checkpoint, reinforce, supervise
from stepwise.errors import ConfigError
from stepwise.evaluation import provenance
from stepwise.scope import AnchorSet, FingerprintStore
from stepwise.scope.prompt import write
from tests.stepwise.scope import worlds

ROOT = Path(__file__).resolve().parents[2]


SETTINGS: dict[str, Any] = {
    "model": str(ROOT / "stepwise/assets/nano/small"), "max_tokens": 8, "dtype": "float32", "lora": None,
    "sft": {"max_steps": 4, "per_device_train_batch_size": 2, "save_steps": 1, "use_cpu": True},
    "grpo": {
        "max_steps": 4, "per_device_train_batch_size": 4, "num_generations": 4, "save_steps": 1,
        "use_cpu": True, "learning_rate": 0.001,
    },
}  # fmt: skip
DATA = [Datum(f"{i} pens?\n", f"{i} pens.\n", "m", i % 2 == 0, i + 1) for i in range(20)]


def train(stage: str, folder: Path) -> None:
    """No answer parses so early; another reward gives the second stage something to learn."""
    with patch("scripts.scope.trainers.reward", lambda text, *_: float(len(set(text)))):
        if stage == "sft":
            supervise(DATA, SETTINGS, folder, seed=3)
        else:
            reinforce(DATA, SETTINGS, SETTINGS["model"], folder, seed=3)


def train_and_die(stage: str, folder: str) -> None:
    """In a process of its own: killed while the third checkpoint is being written."""

    def torn(state: TrainerState, path: str) -> None:
        if state.global_step == 3:
            Path(path).write_text('{"global_')
            os.kill(os.getpid(), signal.SIGKILL)
        save(state, path)

    save = TrainerState.save_to_json
    with patch.object(TrainerState, "save_to_json", torn):
        train(stage, Path(folder))


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_a_stage_that_is_killed_ends_with_the_same_weights(stage: str, tmp_path: Path) -> None:
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
    code = f"from {__name__} import train_and_die; train_and_die({stage!r}, {str(killed)!r})"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert (killed / "checkpoint-3").exists() and last_checkpoint(killed) == str(killed / "checkpoint-2")
    for folder in (killed, undisturbed):
        train(stage, folder)
    resumed, whole = (load_file(folder / "model" / "model.safetensors") for folder in (killed, undisturbed))
    before = load_file(Path(SETTINGS["model"]) / "model.safetensors")
    assert any(not torch.equal(whole[name], before[name].float()) for name in whole)
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


@pytest.mark.slow
def test_an_estimator_is_trained_and_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    anchors = AnchorSet(worlds.problems(30))
    anchors.save(tmp_path / "anchors.json")
    store = FingerprintStore(tmp_path / "f.db")
    store.add(worlds.fingerprint("weak", anchors))
    store.close()
    command = [
        sys.executable, "-m", "scripts.train_scope", f"output={tmp_path}/out",
        f"anchor_set={tmp_path}/anchors.json", f"fingerprints={tmp_path}/f.db",
        "measure.cases=4", "measure.samples=1",
        "test_share=0.2", "k=1",
        "base.model=stepwise/assets/nano/small", "base.max_tokens=8",
        "+base.sft.max_steps=2", "base.sft.save_steps=1",
        "base.grpo.max_steps=1", "base.grpo.per_device_train_batch_size=4", "base.grpo.num_generations=2",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert set(summary["stages"]) == {"few_shot", "sft", "grpo"} and summary["cases"]["test"] == 4
    state = json.loads((tmp_path / "out" / "sft" / "checkpoint-2" / "trainer_state.json").read_text())
    assert state["global_step"] == 2
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert again.returncode == 0 and "train_loss" not in again.stdout  # nothing is trained twice


def test_a_folder_holds_one_run(tmp_path: Path) -> None:
    provenance.same_run(tmp_path, {"model": "a"})
    provenance.same_run(tmp_path, {"model": "a"})
    with pytest.raises(ConfigError, match="holds a run with another pair or configuration; choose another"):
        provenance.same_run(tmp_path, {"model": "b"})


def test_what_does_not_parse_predicts_nothing() -> None:
    test = [Datum("p", "", "m", True, 100), Datum("p", "", "m", False, 100)]
    samples = [[write("a", True, 90), "nonsense"], ["nonsense", "nonsense"]]
    scores = outcomes(samples, test)
    assert scores["format"].tolist() == [0.5, 0.0] and scores["accuracy"].tolist() == [0.5, 0.0]
    assert scores["accuracy_of_majority"].tolist() == [1.0, 0.0] and scores["token_error"][0] == 10.0
    assert scores["yes"][0] == 1.0 and figures([["x"], ["x"]], test, 0)["yes"] is None
    assert commoner(test[:1], test[1:], 0)[0] == 0.0 and commoner(test[1:], test[1:], 0) == [1.0, 1.0, 1.0]
    assert figures([["x"], ["x"]], test, 0)["token_error"] is None
    right = [[write("a", True, 90)], [write("a", False, 90)]]
    lines = differences({"few_shot": [["x"], ["x"]], "sft": right, "grpo": right}, test, 0)
    assert lines[0]["difference"][0] == 1.0 and lines[-1]["difference"] == [0.0, 0.0, 0.0]
