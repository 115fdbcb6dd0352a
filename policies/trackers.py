"""What TensorBoard shows of a training, also in Weights & Biases or MLflow.

Neither is a dependency: install the one that is named (``pip install wandb`` or ``mlflow``). Where they send
the figures is theirs to say: ``WANDB_MODE``, ``WANDB_PROJECT``, ``MLFLOW_TRACKING_URI``, ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter

from stepwise.errors import ConfigError

TRACKERS = ("wandb", "mlflow")
Log = Callable[[dict[str, float], int], Any]
"""Told figures by name, and the step that they are of."""


class Tracked(BaseCallback):
    """Reports a training to one of `TRACKERS`.

    Args:
        tracker: its name.
        output: the run's folder, whose name the run gets.
        config: what is to be seen beside the figures.

    Raises:
        ConfigError: if there is no such tracker, or it is not installed.
    """

    def __init__(self, tracker: str, output: Path, config: Mapping[str, Any]) -> None:
        super().__init__()
        if tracker not in TRACKERS:
            raise ConfigError(f"tracker must be one of {', '.join(TRACKERS)}, not {tracker!r}.")
        try:
            self._tracker: Any = import_module(tracker)
        except ImportError as error:
            raise ConfigError(f"tracker: {tracker} is not installed; pip install {tracker}.") from error
        self._begin = {"wandb": self._wandb, "mlflow": self._mlflow}[tracker]
        self._output, self._config = output, dict(config)
        self._end: Callable[[], Any] = lambda: None

    def _on_training_start(self) -> None:
        self.logger.output_formats.append(Figures(self._begin()))

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self.logger.dump(self.num_timesteps)
        self._end()

    def _wandb(self) -> Log:
        name = self._output.name
        run = self._tracker.init(
            dir=str(self._output), name=name, config=self._config, reinit="finish_previous"
        )
        self._end = run.finish
        return lambda figures, step: run.log(figures, step=step)

    def _mlflow(self) -> Log:
        self._tracker.start_run(run_name=self._output.name)
        self._tracker.log_params(self._config)
        self._end = self._tracker.end_run
        return lambda figures, step: self._tracker.log_metrics(figures, step=step)


class Figures(KVWriter):
    """Hands the numbers of SB3's logger on."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        figures = {name: float(value) for name, value in key_values.items() if isinstance(value, int | float)}
        self._log(figures, step)

    def close(self) -> None:
        pass
