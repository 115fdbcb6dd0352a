"""Push a folder to where others find it, and pull one from there.

A place is a folder, or ``hf://OWNER/NAME``, a repository of the Hugging Face hub, which `huggingface_hub`
talks to: its token, cache, proxy and endpoint settings hold.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from stepwise.errors import BackendError, ConfigError
from stepwise.extras import require
from stepwise.hub.kinds import KINDS, Kind, kind_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi

HUB = "hf://"
CARD = "README.md"
T = TypeVar("T")


def push(folder: str | Path, place: str, *, private: bool = False) -> str:
    """Check a folder, write its card, and copy it to a place. Returns where it is now.

    Args:
        folder: a policy, a recording, or anchors with their fingerprints.
        place: a folder that is not there yet or is empty, or ``hf://OWNER/NAME``.
        private: make the repository private, if it has to be made.

    Raises:
        ConfigError: if the folder cannot be shared, or the place is unusable.
        BackendError: if the hub refuses or cannot be reached.
    """
    source = Path(folder)
    kind = kind_of(source)
    card = kind.card(source)
    with tempfile.TemporaryDirectory() as staged:
        _copy(source, Path(staged), kind)
        (Path(staged) / CARD).write_text(_tagged(card, kind) if place.startswith(HUB) else card)
        if place.startswith(HUB):
            return _upload(Path(staged), _repository(place), kind, private)
        _place(Path(staged), Path(place))
        return place


def pull(place: str, folder: str | Path, *, revision: str | None = None) -> Kind:
    """Bring a shared folder here, whole or not at all. Returns what it is.

    Raises:
        ConfigError: if the place holds nothing known or something damaged, or the folder is not empty.
        BackendError: if the hub refuses or cannot be reached.
    """
    target = Path(folder)
    _check_empty(target)
    if not place.startswith(HUB) and revision is not None:
        raise ConfigError(f"revision is for the hub: {place} is a folder.")
    with tempfile.TemporaryDirectory() as staged:
        source = _download(_repository(place), revision) if place.startswith(HUB) else Path(place)
        kind = kind_of(source)
        _copy(source, Path(staged), kind)
        (Path(staged) / CARD).write_text(kind.card(Path(staged)))
        _place(Path(staged), target)
    return kind


def _copy(source: Path, target: Path, kind: Kind) -> None:
    for pattern in kind.files:
        for file in source.glob(pattern):
            shutil.copy(file, target / file.name)


def _place(staged: Path, target: Path) -> None:
    """Under its name only when it is whole."""
    _check_empty(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(staged, beside)
    if target.exists():
        target.rmdir()
    beside.rename(target)


def _check_empty(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"folder {target} is there already: name one that is not.")


def _repository(place: str) -> str:
    name = place.removeprefix(HUB).strip("/")
    if name.count("/") != 1:
        raise ConfigError(f"a repository is {HUB}OWNER/NAME, not {place!r}.")
    return name


def _tagged(card: str, kind: Kind) -> str:
    return f"---\ntags: [stepwise, {kind.name}]\n---\n{card}"


def _upload(staged: Path, repository: str, kind: Kind, private: bool) -> str:
    hub = _client()

    def upload() -> str:
        hub.create_repo(repository, repo_type=kind.repository, private=private, exist_ok=True)
        return str(
            hub.upload_folder(
                repo_id=repository, repo_type=kind.repository, folder_path=staged,
                commit_message=f"A {kind.name}",
            )
        )  # fmt: skip

    return _reach(repository, upload)


def _download(repository: str, revision: str | None) -> Path:
    """A policy is a model's repository, the others are data sets': the name alone does not say which."""
    from huggingface_hub.errors import RepositoryNotFoundError

    hub = _client()
    for kind in ("model", "dataset"):
        try:
            fetched = hub.snapshot_download(
                repository, repo_type=kind, revision=revision,
                allow_patterns=[pattern for known in KINDS for pattern in known.files],
            )  # fmt: skip
            return Path(fetched)
        except RepositoryNotFoundError:
            continue
        except Exception as error:
            raise _failed(repository, error) from error
    raise ConfigError(f"hub: no repository {repository}, or none that this token may read.")


def _client() -> HfApi:
    require("the hub", "hub")
    from huggingface_hub import HfApi

    return HfApi()


def _reach(repository: str, call: Callable[[], T]) -> T:
    try:
        return call()
    except Exception as error:  # the client raises its own errors, its HTTP library's and the system's
        raise _failed(repository, error) from error


def _failed(repository: str, error: Exception) -> BackendError:
    said = " ".join(str(error).split())[:300]
    name = type(error).__name__
    return BackendError(f"hub: {repository} could not be reached or was refused ({name}: {said}).")
