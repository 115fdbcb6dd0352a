"""What the training program says of its result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from scripts.train import as_calibrated, verdict
from stepwise import load_router


def test_weights_that_learnt_nothing_are_not_called_a_policy() -> None:
    artifact = load_router("nano-ppo", threshold=1.0).artifact
    card = {"steps": 4096, "exported_step": 2048, "imitation": None}
    assert verdict(replace(artifact, card=card), Path("p")).startswith(
        "policy exported to p; next: python -m"
    )
    same = ["dataset.name=my problems.jsonl"]
    assert verdict(replace(artifact, card=card), Path("p"), same).endswith(
        "python -m scripts.calibrate 'dataset.name=my problems.jsonl' policy=p"
    ), "on the same data, not on the built-in one"
    untrained = verdict(replace(artifact, card={**card, "exported_step": 0}), Path("p"))
    assert untrained.startswith("4096 steps found nothing better than the untrained network")
    warm = verdict(replace(artifact, card={**card, "exported_step": 0, "imitation": 0.9}), Path("p"))
    assert "than the warm start" in warm and "not a learned policy" in warm


def test_a_training_that_is_repeated_keeps_its_calibration(tmp_path: Path) -> None:
    calibrated = load_router("nano-ppo", threshold=1.0).artifact
    seen = {"train": ["a"], "calibration": ["b"]}
    calibrated = replace(calibrated, card={**calibrated.card, "seen": seen})
    again = replace(calibrated, record=None, card={**calibrated.card, "seen": {"train": ["a"]}})
    assert as_calibrated(again, tmp_path).record is None, "nothing is there"
    calibrated.save(tmp_path)
    kept = as_calibrated(again, tmp_path)
    assert kept.record is not None and calibrated.record is not None and kept.card["seen"] == seen
    assert (kept.record.thresholds == calibrated.record.thresholds).all()
    other = replace(again, weights={name: w + np.float32(1) for name, w in again.weights.items()})
    assert as_calibrated(other, tmp_path).record is None, "of another policy"
