"""Fingerprints in one SQLite file, and as JSON Lines or Parquet for exchange."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from stepwise.engine.cost import Price
from stepwise.errors import ConfigError
from stepwise.extras import missing_extra
from stepwise.scope.fingerprint import Fingerprint
from stepwise.store.connection import connect


class FingerprintStore:
    """One fingerprint per model; adding a model again replaces its fingerprint.

    Args:
        path: of the file, or ":memory:".

    Raises:
        ConfigError: if the file cannot be opened, or is something else.
    """

    def __init__(self, path: str | Path) -> None:
        self._lock = threading.Lock()
        try:
            table = "CREATE TABLE IF NOT EXISTS fingerprints (model TEXT PRIMARY KEY, value TEXT)"
            self._db = connect(path, table)
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(f"fingerprints: {str(path)!r} cannot be opened as a store: {error}.") from error

    def add(self, *fingerprints: Fingerprint) -> None:
        rows = [(fingerprint.model, json.dumps(_plain(fingerprint))) for fingerprint in fingerprints]
        with self._lock:
            self._db.executemany("INSERT OR REPLACE INTO fingerprints VALUES (?, ?)", rows)

    def get(self, model: str) -> Fingerprint:
        """The fingerprint of a model.

        Raises:
            ConfigError: if there is none.
        """
        with self._lock:
            row = self._db.execute("SELECT value FROM fingerprints WHERE model = ?", (model,)).fetchone()
        if row is None:
            raise ConfigError(
                f"model {model!r} has no fingerprint; the store has {', '.join(self.models) or 'none'}."
            )
        return _fingerprint(json.loads(row[0]))

    def remove(self, model: str) -> None:
        with self._lock:
            self._db.execute("DELETE FROM fingerprints WHERE model = ?", (model,))

    @property
    def models(self) -> tuple[str, ...]:
        """Names in alphabetical order."""
        with self._lock:
            rows = self._db.execute("SELECT model FROM fingerprints ORDER BY model").fetchall()
        return tuple(row[0] for row in rows)

    @property
    def version(self) -> tuple[int, int]:
        """Changes whenever the content does, by this or by another connection."""
        with self._lock:
            seen: int = self._db.execute("PRAGMA data_version").fetchone()[0]
            return seen, self._db.total_changes

    def __iter__(self) -> Iterator[Fingerprint]:
        return iter([self.get(model) for model in self.models])

    def __len__(self) -> int:
        return len(self.models)

    def export(self, path: str | Path) -> None:
        """Write all fingerprints, one per line (``.jsonl``) or row (``.parquet``).

        Raises:
            ConfigError: if the ending is another one, or pyarrow is missing.
        """
        lines = [_plain(self.get(model)) for model in self.models]
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        if _kind(path) == ".jsonl":
            Path(path).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
            return
        arrow, parquet = _pyarrow()
        flat = [
            {**line, "price": json.dumps(line["price"]), "scores": json.dumps(line["scores"])}
            for line in lines
        ]
        parquet.write_table(arrow.Table.from_pylist(flat), path)

    def load(self, path: str | Path) -> tuple[str, ...]:
        """Add the fingerprints of a file that `export` wrote; returns their models.

        Raises:
            ConfigError: if the file cannot be read, or a fingerprint is unusable; then none is added.
        """
        try:
            if _kind(path) == ".jsonl":
                rows = [
                    json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines() if line
                ]
            else:
                flat = _pyarrow()[1].read_table(path).to_pylist()
                rows = [
                    {**r, "price": json.loads(r["price"]), "scores": json.loads(r["scores"])} for r in flat
                ]
            fingerprints = [_fingerprint(row) for row in rows]
        except ConfigError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"fingerprints: {str(path)!r} cannot be read: {error}.") from error
        self.add(*fingerprints)
        return tuple(fingerprint.model for fingerprint in fingerprints)

    def close(self) -> None:
        with self._lock:
            self._db.close()


def _plain(fingerprint: Fingerprint) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(fingerprint)
    return plain


def _fingerprint(row: Mapping[str, Any]) -> Fingerprint:
    return Fingerprint(**{**row, "price": Price(**row["price"]) if row.get("price") else None})


def _kind(path: str | Path) -> str:
    ending = Path(path).suffix
    if ending not in (".jsonl", ".parquet"):
        raise ConfigError(
            f"fingerprints: the file's name must end in .jsonl or .parquet, not {Path(path).name!r}."
        )
    return ending


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise missing_extra("Parquet", "scope") from error
    return pyarrow, pyarrow.parquet
