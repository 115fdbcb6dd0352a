"""The file that survives a restart: what each key has spent today, and where the threshold stands."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from stepwise.errors import ConfigError

Amount = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Day = Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d{2}-\d{2}$")]


class Position(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of the online threshold (`stepwise.calibration.OnlineThreshold.state`)."""

    target: Share
    position: Share
    count: Count
    grid: str = ""


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is remembered.

    Attributes:
        unit: of costs; a server that counts in another one must not go on with these.
        day: in UTC, ``2030-01-31``; ``spent`` is that day's, by tenant.
        alone, seen: the recent mean cost of large-only, and of how many chains.
    """

    unit: str
    day: Day
    spent: Mapping[str, Amount]
    online: Position | None
    alone: Amount
    seen: Count
    schema: Literal[1] = 1


def read(path: Path, unit: str) -> State | None:
    """The state in a file; None if there is none.

    Raises:
        ConfigError: if it cannot be read, or counts in another unit.
    """
    try:
        state = msgspec.json.decode(path.read_bytes(), type=State)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"state: {path} cannot be read ({error}); delete it to start over.") from error
    if state.unit != unit:
        raise ConfigError(
            f"state: {path} counts in {state.unit}, this server in {unit}; "
            "pass the same --cost, another --state, or delete it to start over."
        )
    return state


def write(path: Path, state: State) -> None:
    """Replace the file, whole or not at all.

    Raises:
        ConfigError: if it cannot be written.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(msgspec.json.encode(state))
        draft.replace(path)
    except OSError as error:
        raise ConfigError(f"state: {path} cannot be written: {error.strerror}.") from error


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Keep the file for one server. The system lets go of it when the process ends, however it ends.

    Raises:
        ConfigError: if another server has it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f"{path.name}.lock").open("w")
    except OSError as error:
        raise ConfigError(f"state: {path} cannot be written: {error.strerror}.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"state: {path} belongs to a server that runs; pass another --state.") from None
        yield
