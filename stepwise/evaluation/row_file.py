"""The rows of a run where they lie: in their file, of which only places are kept in memory."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, overload

from stepwise.errors import ConfigError
from stepwise.evaluation.rows import DECODER, Row, decoded, line_of


class RowFile(Sequence[Row]):
    """Rows of a file (JSON Lines), each read when it is looked at: eight bytes of memory a row.

    Args:
        wanted: which of the rows that are there already.

    Raises:
        ConfigError: if the file cannot be written.
    """

    def __init__(self, path: Path, wanted: Callable[[Row], bool]) -> None:
        self._places = array("Q")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = path.open("a+b")
        except OSError as error:
            raise ConfigError(f"output: {path} cannot be written: {error.strerror}.") from error
        self._file.seek(place := 0)
        line = b"\n"
        for line in self._file:
            row = decoded(line)
            if row is not None and wanted(row):
                self._places.append(place)
            place += len(line)
        if not line.endswith(b"\n"):  # a kill cut it off
            self._file.write(b"\n")
            place += 1
        self._end = place

    def add(self, row: Row) -> None:
        """Append a row; it is in the file when this returns."""
        line = line_of(row).encode()
        self._file.write(line)
        self._file.flush()
        self._places.append(self._end)
        self._end += len(line)

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        if isinstance(place, slice):
            return [self._at(at) for at in self._places[place]]
        return self._at(self._places[place])

    def __iter__(self) -> Iterator[Row]:
        return map(self._at, self._places)

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def _at(self, place: int) -> Row:
        self._file.seek(place)
        return DECODER.decode(self._file.readline())
