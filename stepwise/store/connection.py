"""How this project opens its SQLite files: shared between threads, and patient with other processes."""

from __future__ import annotations

import sqlite3
from pathlib import Path


def connect(path: str | Path, *statements: str) -> sqlite3.Connection:
    """Open a file, or ":memory:", creating its folder, and run ``statements`` that prepare it.

    Every statement of the connection is a transaction of its own. Callers from several threads take a lock.

    Raises:
        sqlite3.Error, OSError: if it cannot be opened, or is something else.
    """
    if str(path) != ":memory:":
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    opened = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30.0)
    for statement in statements:
        opened.execute(statement)
    return opened
