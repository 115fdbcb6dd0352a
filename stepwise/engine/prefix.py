"""A growing sequence of token ids with cheap snapshots.

A chain of thought only ever grows at its end, and branches now and then. Snapshots share one list: the
first one to grow extends it in place, a branch copies. A chain of n tokens so costs O(n) in all, where
a new tuple per step would cost O(n^2).
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import overload

BLOCK = 64
"""Tokens per link of the hash chain."""


class Prefix(Sequence[int]):
    """An immutable view of the first ``len(prefix)`` ids of a shared list.

    Args:
        opening: what the conversation began with that these ids go on with; by default they are that.
    """

    __slots__ = ("_hashed", "_ids", "_length", "_opening", "_rooted")

    def __init__(self, ids: Iterable[int] = (), opening: Sequence[int] | None = None) -> None:
        self._ids = list(ids)
        self._length = self._rooted = len(self._ids)
        self._opening = opening
        self._hashed = (0, b"")

    def extend(self, more: Sequence[int]) -> Prefix:
        """This prefix followed by ``more``."""
        longer = Prefix.__new__(Prefix)
        longer._ids = self._ids if len(self._ids) == self._length else self._ids[: self._length]
        longer._ids.extend(more)
        longer._length = self._length + len(more)
        longer._hashed = self._hashed
        longer._opening, longer._rooted = self._opening, self._rooted
        return longer

    def root(self) -> bytes:
        """Content address of what its conversation began with, however far it has grown (16 bytes)."""
        return _hash(b"", self._ids[: self._rooted] if self._opening is None else self._opening)

    def digest(self) -> bytes:
        """Content address of the tokens (16 bytes). Whole blocks are hashed once per chain."""
        done, link = self._hashed
        while done + BLOCK <= self._length:
            link = _hash(link, self._ids[done : done + BLOCK])
            done += BLOCK
        self._hashed = (done, link)
        return _hash(link, self._ids[done : self._length])

    def tail(self, tokens: int) -> list[int]:
        """The last ``tokens`` ids, fewer if there are fewer."""
        return self._ids[max(self._length - tokens, 0) : self._length]

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        return islice(self._ids, self._length)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[int]: ...
    def __getitem__(self, index: int | slice) -> int | Sequence[int]:
        if isinstance(index, slice):
            return self._ids[slice(*index.indices(self._length))]
        return self._ids[range(self._length)[index]]

    def __repr__(self) -> str:
        return f"Prefix({list(self)})"


def _hash(link: bytes, ids: Sequence[int]) -> bytes:
    return hashlib.blake2b(link + array("I", ids).tobytes(), digest_size=16).digest()
