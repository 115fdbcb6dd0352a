"""The step store in one SQLite file, for the processes of one machine.

What cannot be read is generated again, and what cannot be kept is not: a disk that is full, a file that is
locked or damaged is said once, and the run goes on without it.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from stepwise.engine.backend import Completion
from stepwise.errors import ConfigError
from stepwise.store.connection import connect
from stepwise.store.steps import Entry, dump, load

logger = logging.getLogger(__name__)


class SqliteStore:
    """Completions in one SQLite file (write-ahead log: many readers, crash-safe).

    Args:
        path: of the file, or ":memory:".

    Raises:
        ConfigError: if the file cannot be opened or written.
    """

    remote = False

    def __init__(self, path: str | Path) -> None:
        self._lock = threading.Lock()
        self._path, self._said = str(path), False
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
        try:
            with self._lock:
                row = self._db.execute("SELECT value FROM steps WHERE key = ?", (key,)).fetchone()
            return load(row[0]) if row else None
        except (sqlite3.Error, ValueError, TypeError) as error:
            self._say(error)
            return None

    def put(self, key: bytes, completion: Completion) -> None:
        try:
            with self._lock:
                self._db.execute("INSERT OR IGNORE INTO steps VALUES (?, ?)", (key, dump(completion)))
        except sqlite3.Error as error:
            self._say(error)

    def _say(self, error: Exception) -> None:
        if not self._said:
            self._said = True
            logger.warning("store %r: %s; the run goes on without it.", self._path, error)

    def get_many(self, keys: Sequence[bytes]) -> list[Completion | None]:
        return [self.get(key) for key in keys]  # SQLite gains nothing from asking for several

    def put_many(self, entries: Iterable[Entry]) -> int:
        rows = [(key, dump(completion)) for key, completion in entries]
        with self._lock:
            before = self._db.total_changes
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany("INSERT OR IGNORE INTO steps VALUES (?, ?)", rows)
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
            return self._db.total_changes - before

    def pages(self, size: int = 1000) -> Iterator[list[Entry]]:
        page: list[tuple[bytes, str]] = [(b"", "")]
        while True:
            with self._lock:
                query = "SELECT key, value FROM steps WHERE key > ? ORDER BY key LIMIT ?"
                page = self._db.execute(query, (page[-1][0], size)).fetchall()
            if not page:
                return
            yield [(key, load(value)) for key, value in page]

    def __len__(self) -> int:
        with self._lock:
            return int(self._db.execute("SELECT count(*) FROM steps").fetchone()[0])

    def close(self) -> None:
        with self._lock:
            self._db.close()
