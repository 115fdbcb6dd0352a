"""What the training program says of its result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from scripts.train import verdict
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
