"""What a training reports, and to whom: stand-ins for Weights & Biases and MLflow, and both if installed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from stable_baselines3.common.callbacks import BaseCallback

from envs import RoutingVectorEnv
from policies.reference import Reference
from policies.trackers import Tracked
from policies.train import train
from stepwise.errors import ConfigError
from tests.policies.test_train import POLICY, PROBLEMS, World
from tests.worlds import engine

ROLLOUT = 8 * 16


def trained(output: Path, steps: int, *callbacks: BaseCallback) -> Any:
    env = RoutingVectorEnv(engine(), PROBLEMS, 8, cost_scale=1e3)
    ppo = {**POLICY["ppo"], "n_steps": 16, "batch_size": 32}
    pair: Any = World()
    return train(
        env, pair, {**POLICY, "total_steps": steps, "ppo": ppo}, output=output, seed=0, every=1,
        reference=Reference(1e3, 1.0, 1), callbacks=callbacks,
    )  # fmt: skip


class Ends(BaseCallback):
    """Ends a training after so many steps."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._after = after

    def _on_step(self) -> bool:
        return self.num_timesteps < self._after


def test_a_callback_of_ones_own_may_end_a_training(tmp_path: Path) -> None:
    assert trained(tmp_path, 10 * ROLLOUT, Ends(3 * ROLLOUT)).card["steps"] == 3 * ROLLOUT


@pytest.mark.parametrize("tracker", ["wandb", "mlflow"])
def test_figures_are_reported_by_step(tracker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: dict[int, dict[str, float]] = {}
    ended: list[bool] = []

    def log(figures: dict[str, float], step: int) -> None:
        logged.setdefault(step, {}).update(figures)

    def end() -> None:
        ended.append(True)

    fakes = {
        "wandb": SimpleNamespace(init=lambda **about: SimpleNamespace(log=log, finish=end)),
        "mlflow": SimpleNamespace(
            start_run=lambda run_name: None, log_params=dict, log_metrics=log, end_run=end
        ),
    }
    monkeypatch.setitem(sys.modules, tracker, fakes[tracker])
    trained(tmp_path, 3 * ROLLOUT, Tracked(tracker, tmp_path, {"width": 32}))
    assert ended == [True] and max(logged) == 3 * ROLLOUT
    assert all({"episodes/accuracy", "episodes/cost"} <= set(logged[i * ROLLOUT]) for i in (1, 2))


def test_real_trackers_take_what_they_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    trained(tmp_path / "m", 3 * ROLLOUT, Tracked("mlflow", tmp_path / "m", {"width": 32}))
    (run,) = mlflow.search_runs(output_format="list")
    assert (
        run.info.run_name == "m"
        and run.data.params == {"width": "32"}
        and "episodes/cost" in run.data.metrics
    )
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    trained(tmp_path / "w", 3 * ROLLOUT, Tracked("wandb", tmp_path / "w", {"width": 32}))
    assert list((tmp_path / "w" / "wandb").glob("offline-run-*/*.wandb"))


def test_unknown_and_missing_trackers_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="tracker must be one of wandb, mlflow, not 'comet'"):
        Tracked("comet", tmp_path, {})
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match="wandb is not installed; pip install wandb"):
        Tracked("wandb", tmp_path, {})
