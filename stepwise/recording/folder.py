"""A recording on disk: Parquet tables in numbered shards, and a journal of what is in none of them yet.

Every record goes to the journal at once, so that a process that is killed loses the steps in flight and no
others. A full journal becomes one shard a table: the shard is whole before the journal goes, and what is in
both is read once.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from stepwise.errors import ConfigError
from stepwise.extras import install
from stepwise.recording.records import TABLES, Record
from stepwise.recording.tree import Tree

JOURNAL = "journal.jsonl"
ABOUT = "recording.json"
SHARD = 5_000
"""Records in the journal that make a shard."""


class Recording:
    """A folder that is read whole and appended to.

    Args:
        folder: made if it is not there.
        about: what was recorded, as plain data: models, prompt, data set. None to take it as it is.

    Attributes:
        tree: everything in it.

    Raises:
        ConfigError: if pyarrow is missing, a file cannot be read, or the folder holds a recording of
            something else.
    """

    def __init__(self, folder: str | Path, about: dict[str, Any] | None = None) -> None:
        self.folder = Path(folder)
        self.about = self._identified(about)
        self.tree = Tree(self._shards())
        self._waiting = [record for record in self._journal() if self.tree.add(record)]
        self._stream = None if about is None else (self.folder / JOURNAL).open("ab")
        if self._stream is not None:
            self._rewrite()

    def count(self, split: str) -> int:
        """Problems of a split."""
        return sum(question.split == split for question in self.tree.questions.values())

    def add(self, record: Record) -> None:
        """Append a record, unless it is there."""
        if self._stream is None:
            raise ConfigError(f"recording {self.folder} is open for reading only.")
        if self.tree.add(record):
            self._stream.write(msgspec.json.encode(record) + b"\n")
            self._stream.flush()
            self._waiting.append(record)
            if len(self._waiting) >= SHARD:
                self.compact()

    def compact(self) -> None:
        """Move the journal into shards."""
        tables = defaultdict(list)
        for record in self._waiting:
            tables[type(record)].append(msgspec.to_builtins(record))
        for table, kind in TABLES.items():
            if rows := tables.get(kind):
                self._write(table, rows)
        self._waiting = []
        if self._stream is not None:
            self._rewrite()

    def close(self) -> None:
        """Move what waits into shards; nothing can be added afterwards."""
        if self._stream is not None:
            self.compact()
            self._stream.close()
            self._stream = None

    def _rewrite(self) -> None:
        """The journal with what waits and nothing else: no torn line, nothing that is in a shard."""
        part = self.folder / f"{JOURNAL}.part"
        part.write_bytes(b"".join(msgspec.json.encode(record) + b"\n" for record in self._waiting))
        if self._stream is not None:
            self._stream.close()
        part.replace(self.folder / JOURNAL)
        self._stream = (self.folder / JOURNAL).open("ab")

    def _identified(self, about: dict[str, Any] | None) -> dict[str, Any]:
        path = self.folder / ABOUT
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        if about is None:
            if known is None:
                raise ConfigError(f"recording: {path} is missing.")
            return dict(known)
        if known is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        elif known != about:
            other = next(name for name in {**known, **about} if known.get(name) != about.get(name))
            raise ConfigError(
                f"output: {self.folder} holds a recording with another {other}; use another folder."
            )
        return dict(about)

    def _journal(self) -> Iterator[Record]:
        path = self.folder / JOURNAL
        for line in path.read_bytes().split(b"\n") if path.is_file() else ():
            try:
                yield msgspec.json.decode(line, type=Record)
            except msgspec.DecodeError:
                continue  # cut off by a kill

    def _shards(self) -> Iterator[Record]:
        for table, kind in TABLES.items():
            for path in sorted(self.folder.glob(f"{table}-*.parquet")):
                for row in _parquet().read_table(path).to_pylist():
                    yield msgspec.convert(_plain(row), kind)

    def _write(self, table: str, rows: list[Any]) -> None:
        import pyarrow

        for row in rows:
            row.pop("type")
        number = len(list(self.folder.glob(f"{table}-*.parquet")))
        path = self.folder / f"{table}-{number:04d}.parquet"
        part = path.with_suffix(".part")
        _parquet().write_table(pyarrow.Table.from_pylist(rows), part, compression="zstd", compression_level=9)
        part.replace(path)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Parquet keeps a mapping as columns that all rows have; a model without a count has none."""
    return {
        name: {key: count for key, count in value.items() if count is not None}
        if isinstance(value, dict)
        else value
        for name, value in row.items()
    }


def _parquet() -> Any:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ConfigError(f"recordings need pyarrow: {install('recording')}.") from error
    return parquet
