"""Experiments: one linear Hydra program each, run as ``python -m scripts.NAME`` from a checkout."""

from __future__ import annotations

import functools
import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

import envs
import policies
from scripts.overrides import check_overrides
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


def program(config: str) -> Callable[[Callable[[DictConfig], None]], Callable[[], None]]:
    """Make a function a Hydra program over ``configs/{config}.yaml``.

    Bad input, on the command line or found later, ends it with one sentence and exit code 2, not with a
    traceback.
    """

    def decorate(main: Callable[[DictConfig], None]) -> Callable[[], None]:
        @functools.wraps(main)
        def job(cfg: DictConfig) -> None:
            collect_rarely()
            with _refusing(config):  # here too: an error that reaches Hydra gets a line of its own
                check_overrides(cfg)
                main(cfg)

        composed = hydra.main(version_base=None, config_path=str(ROOT / "configs"), config_name=config)(job)

        @functools.wraps(main)
        def run() -> None:
            # Lets errors through; else Hydra prints them in its own way and exits with 1.
            os.environ["HYDRA_FULL_ERROR"] = "1"
            with _refusing(config):
                composed()

        return run

    return decorate


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    try:
        yield
    except InstantiationException as error:  # Hydra wraps what a constructor raises
        if not isinstance(error.__cause__, StepwiseError):
            raise
        why = str(error.__cause__)
    except StepwiseError as error:
        why = str(error)
    except OmegaConfBaseException as error:
        why = f"{error.full_key or 'configuration'}: {str(error).splitlines()[0]}"
    except HydraException as error:
        why = " ".join(str(error).partition("\nConfig search path:")[0].split())
    else:
        return
    print(f"{name}: {why}", file=sys.stderr)
    sys.exit(2)


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
