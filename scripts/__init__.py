"""Experiments: one linear Hydra program each, run as ``python -m scripts.NAME`` from a checkout."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

import envs
import policies
from stepwise.errors import StepwiseError

ROOT = Path(__file__).resolve().parent.parent
console = Console()

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
        try:
            main(cfg)
        except (StepwiseError, OmegaConfBaseException) as error:
            print(
                f"{main.__module__.removeprefix('__main__') or Path(sys.argv[0]).stem}: {error}",
                file=sys.stderr,
            )
            sys.exit(2)

    return run
