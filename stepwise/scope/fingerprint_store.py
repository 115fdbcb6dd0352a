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

TABLE = """CREATE TABLE IF NOT EXISTS taken
    (model TEXT, anchors TEXT, value TEXT, PRIMARY KEY (model, anchors))"""


class FingerprintStore:
    """One fingerprint per model and anchor set; adding it again replaces it.

    Args:
        path: of the file, or ":memory:".
        create: whether a missing file is made; if not, a missing file is an error.

    Raises:
        ConfigError: if the file is missing, cannot be opened, or is something else.
    """

    def __init__(self, path: str | Path, *, create: bool = True) -> None:
        self._lock = threading.Lock()
        if not create and not Path(path).is_file():
            raise ConfigError(f"fingerprints: {str(path)!r} does not exist.")
        try:
            self._db = connect(path, TABLE)
            self._adopt()
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(f"fingerprints: {str(path)!r} cannot be opened as a store: {error}.") from error

    def _adopt(self) -> None:
        """Move the rows of a store from before anchor sets were part of the key."""
        if self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'fingerprints'").fetchone():
            self._db.executescript(
                """BEGIN IMMEDIATE;
                CREATE TABLE IF NOT EXISTS fingerprints (model TEXT PRIMARY KEY, value TEXT);
                INSERT OR IGNORE INTO taken
                    SELECT model, coalesce(json_extract(value, '$.anchors'), ''), value FROM fingerprints;
                DROP TABLE fingerprints;
                COMMIT;"""
            )

    def add(self, *fingerprints: Fingerprint) -> None:
        """Add all of them, or none if the file cannot be written."""
        rows = [(taken.model, taken.anchors, json.dumps(_plain(taken))) for taken in fingerprints]
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany("INSERT OR REPLACE INTO taken VALUES (?, ?, ?)", rows)
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def get(self, model: str, anchors: str | None = None) -> Fingerprint:
        """The fingerprint of a model.

        Args:
            anchors: `AnchorSet.digest` of the set; may be left out where the model has answered one set only.

        Raises:
            ConfigError: if there is none, or several and ``anchors`` does not say which.
        """
        own = [taken for taken in self if taken.model == model]
        matching = [taken for taken in own if anchors is None or taken.anchors == anchors]
        if not own:
            raise ConfigError(
                f"model {model!r} has no fingerprint; the store has {', '.join(self.models) or 'none'}."
            )
        if len(matching) != 1:
            sets = ", ".join(taken.anchors or "unknown" for taken in own)
            raise ConfigError(f"model {model!r} has fingerprints on the anchor sets {sets}; say which.")
        return matching[0]

    def remove(self, model: str, anchors: str | None = None) -> None:
        """Remove a model's fingerprint on a set of anchors, or all that it has."""
        with self._lock:
            self._db.execute(
                "DELETE FROM taken WHERE model = ? AND anchors = coalesce(?, anchors)", (model, anchors)
            )

    def on(self, anchors: str) -> list[Fingerprint]:
        """One fingerprint per model, by name: the one on these anchors, else one on unknown anchors, else
        any other."""
        by_fit = sorted(self, key=lambda taken: (taken.anchors == anchors, taken.anchors == ""))
        best = {taken.model: taken for taken in by_fit}
        return [best[model] for model in sorted(best)]

    @property
    def models(self) -> tuple[str, ...]:
        """Names in alphabetical order."""
        with self._lock:
            rows = self._db.execute("SELECT DISTINCT model FROM taken ORDER BY model").fetchall()
        return tuple(row[0] for row in rows)

    @property
    def version(self) -> tuple[int, int]:
        """Changes whenever the content does, by this or by another connection."""
        with self._lock:
            seen: int = self._db.execute("PRAGMA data_version").fetchone()[0]
            return seen, self._db.total_changes

    def __iter__(self) -> Iterator[Fingerprint]:
        """All of them as they were at one moment, whatever another process writes meanwhile."""
        with self._lock:
            rows = self._db.execute("SELECT value FROM taken ORDER BY model, anchors").fetchall()
        return iter([_fingerprint(json.loads(row[0])) for row in rows])

    def __len__(self) -> int:
        with self._lock:
            count: int = self._db.execute("SELECT count(*) FROM taken").fetchone()[0]
        return count

    def export(self, path: str | Path) -> None:
        """Write all fingerprints, one per line (``.jsonl``) or row (``.parquet``).

        Raises:
            ConfigError: if the ending is another one, or pyarrow is missing.
        """
        lines = [_plain(fingerprint) for fingerprint in self]
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
        """Close the file; the store cannot be used afterwards."""
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
