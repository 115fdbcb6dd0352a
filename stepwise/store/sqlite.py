"""The step store: completions by content, so that nothing is ever generated twice.

With deterministic sampling the tree of a problem's chains is a value. A sweep over thresholds, a
training epoch, or a rerun after a crash pays only for nodes that nobody has visited.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Protocol

from stepwise.engine.backend import Completion, Sampling
from stepwise.engine.prefix import Prefix
from stepwise.errors import ConfigError
from stepwise.store.connection import connect
from stepwise.types import Signals, Usage


class Store(Protocol):
    """Keeps completions. Implementations must be safe to call from several threads."""

    def get(self, key: bytes) -> Completion | None: ...

    def put(self, key: bytes, completion: Completion) -> None: ...

    def close(self) -> None: ...


def key(revision: str, prefix: Sequence[int], sampling: Sampling) -> bytes:
    """Content address of a completion: model revision, prefix tokens, sampling (16 bytes)."""
    tokens = prefix if isinstance(prefix, Prefix) else Prefix(prefix)
    how = repr((revision, sampling)).encode()
    return hashlib.blake2b(how + tokens.digest(), digest_size=16).digest()


class SqliteStore:
    """Completions in one SQLite file (write-ahead log: many readers, crash-safe).

    Args:
        path: of the file, or ":memory:".

    Raises:
        ConfigError: if the file cannot be opened or written.
    """

    def __init__(self, path: str | Path) -> None:
        self._lock = threading.Lock()
        try:
            self._db = connect(
                path,
                "PRAGMA journal_mode=WAL",
                "PRAGMA synchronous=NORMAL",
                "CREATE TABLE IF NOT EXISTS steps (key BLOB PRIMARY KEY, value TEXT) WITHOUT ROWID",
            )
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(f"store {str(path)!r} cannot be opened for writing: {error}") from error

    def get(self, key: bytes) -> Completion | None:
        with self._lock:
            row = self._db.execute("SELECT value FROM steps WHERE key = ?", (key,)).fetchone()
        return _load(row[0]) if row else None

    def put(self, key: bytes, completion: Completion) -> None:
        with self._lock:
            self._db.execute("INSERT OR IGNORE INTO steps VALUES (?, ?)", (key, _dump(completion)))

    def __len__(self) -> int:
        with self._lock:
            return int(self._db.execute("SELECT count(*) FROM steps").fetchone()[0])

    def close(self) -> None:
        with self._lock:
            self._db.close()


def _dump(completion: Completion) -> str:
    """A list without names, which is read twice as fast."""
    signals, usage = astuple(completion.signals), astuple(completion.usage)
    values = completion.text, completion.token_ids, usage, signals, completion.finish
    return json.dumps(values, separators=(",", ":"))


def _load(text: str) -> Completion:
    written, token_ids, usage, measured, finish = json.loads(text)
    return Completion(written, tuple(token_ids), Usage(*usage), Signals(*measured), finish)
