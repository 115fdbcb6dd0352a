"""Experiments: one linear Hydra program each, run as ``python -m scripts.NAME`` from a checkout."""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Callable
from pathlib import Path

from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

import envs
import policies
from stepwise.errors import StepwiseError

ROOT = Path(__file__).resolve().parent.parent
console = Console()

for place, argument in enumerate(sys.argv[:-1]):  # a run's folder, to repeat the run
    folder = Path(sys.argv[place + 1]).resolve()
    if argument in ("--config-path", "-cp") and (folder / "config.yaml").is_file():
        sys.argv[place + 1 : place + 2] = [str(folder), "--config-name", "config"]
        break

for package in (envs, policies):
    if Path(str(package.__file__)).resolve().parent.parent != ROOT:
        sys.exit(
            f"the package {package.__name__!r} was imported from {package.__file__}, another project's; "
            f"run the scripts from the checkout at {ROOT}."
        )


def guarded(main: Callable[[DictConfig], None]) -> Callable[[DictConfig], None]:
    """Bad input ends a script with one sentence and exit code 2, not with a traceback."""

    @functools.wraps(main)
    def run(cfg: DictConfig) -> None:
        collect_rarely()
        try:
            main(cfg)
        except InstantiationException as error:  # Hydra wraps what a constructor raises
            if not isinstance(error.__cause__, StepwiseError):
                raise
            sys.exit(_refused(error.__cause__))
        except (StepwiseError, OmegaConfBaseException) as error:
            sys.exit(_refused(error))

    return run


def collect_rarely() -> None:
    """Chains are many small values that live long and have no cycles: with Python's default the collector
    walks through them again and again, for a quarter of an environment's time."""
    gc.set_threshold(20_000, 20, 50)


def save_config(cfg: DictConfig, path: Path) -> None:
    """Save the resolved configuration in a form that ``--config-path`` accepts."""
    frame = {
        "defaults": ["_self_", *({f"override hydra/{kind}_logging": "none"} for kind in ("job", "hydra"))],
        "hydra": {"run": {"dir": "."}, "output_subdir": None},
    }
    resolved = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    OmegaConf.save(OmegaConf.merge(frame, resolved), path)


def _refused(error: Exception) -> int:
    print(f"{Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
    return 2
