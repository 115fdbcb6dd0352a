"""A step store by its address: a server's, or the path of a file."""

from __future__ import annotations

from pathlib import Path

from stepwise.errors import ConfigError
from stepwise.store.redis import RedisStore
from stepwise.store.redis_server import SCHEMES
from stepwise.store.sqlite import SqliteStore
from stepwise.store.steps import Store


def on_server(address: str | Path) -> bool:
    """Whether an address is that of a server, which many machines can reach."""
    return str(address).startswith(SCHEMES)


def open_store(address: str | Path) -> Store:
    """Open ``redis://...`` or ``rediss://...``, or else a SQLite file.

    Raises:
        ConfigError: if it cannot be opened.
    """
    if on_server(address):
        return RedisStore(str(address))
    if "://" in str(address):
        raise ConfigError(f"store must be {' or '.join(SCHEMES)}... or the path of a file, not {address!r}.")
    return SqliteStore(address)
