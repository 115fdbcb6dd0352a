"""A recording as an environment: episodes on what real models wrote, without models.

    gymnasium.make("stepwise/Routing-v0", recording="gsm8k-qwen_coder")

What nobody recorded ends an episode as wrong, at the cost of the large model's whole chain on top, as
StepBench counts it: a policy learns to stay where it is known what happens.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from stepwise.engine.engine import Engine
from stepwise.errors import ConfigError
from stepwise.evaluation.replayed import Bench
from stepwise.recording.folder import Recording
from stepwise.types import Problem

FOLDER = Path(__file__).parents[1] / "recordings"


@lru_cache(maxsize=4)
def recorded_world(
    recording: str, split: str = "train", dataset: tuple[Problem, ...] = ()
) -> tuple[Engine, tuple[Problem, ...], float]:
    """The engine, the problems of a split, and the large model's mean cost alone, which is the unit of cost.

    Args:
        recording: a folder, or the name of one in ``recordings``.
        dataset: its problems with their questions, for agents that read them.

    Raises:
        ConfigError: if there is no such recording, or nothing of this split is recorded.
    """
    folders = [f for f in (Path(recording), FOLDER / recording) if (f / "recording.json").is_file()]
    if not folders:
        names = ", ".join(sorted(path.name for path in FOLDER.glob("*") if path.is_dir()))
        raise ConfigError(f"recording must be a folder, or one of {names}, not {recording!r}.")
    bench = Bench(Recording(folders[0]), split, bounded=True, dataset=dataset)
    return bench.engine, tuple(bench.problems), float(bench.large.cost.mean())
