"""Keys and values of recently processed sequences, found again by their longest common prefix."""

from __future__ import annotations

from collections import OrderedDict
from itertools import count

import torch

from stepwise.types import common_prefix

BLOCK = 8
"""Prefixes are indexed at multiples of this length; a match is then extended token by token."""

Ids = tuple[int, ...]


class PrefixCache:
    """Least-recently-used sequences with their keys and values, bounded in bytes.

    A sequence's tensor has shape [layers, 2, heads, tokens, head size].
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._numbers = count()
        self._entries: OrderedDict[int, tuple[Ids, torch.Tensor]] = OrderedDict()
        self._index: dict[int, int] = {}

    def put(self, ids: Ids, kv: torch.Tensor) -> None:
        """Keep a sequence; ``kv`` holds its first ``len(ids)`` tokens."""
        number = next(self._numbers)
        self._entries[number] = (ids, kv)
        self._bytes += kv.nbytes
        for end in range(BLOCK, len(ids) + 1, BLOCK):
            self._index[hash(ids[:end])] = number
        while self._bytes > self._max_bytes and len(self._entries) > 1:
            self._evict()

    def longest(self, ids: Ids) -> tuple[int, torch.Tensor | None]:
        """(length, kv) of the longest known prefix of ``ids``; (0, None) when there is none."""
        for end in range(len(ids) // BLOCK * BLOCK, 0, -BLOCK):
            number = self._index.get(hash(ids[:end]))
            if number is None:
                continue
            known, kv = self._entries[number]
            length = common_prefix(known, ids)
            if length >= end:
                self._entries.move_to_end(number)
                return length, kv[:, :, :, :length]
        return 0, None

    def _evict(self) -> None:
        number, (ids, kv) = self._entries.popitem(last=False)
        self._bytes -= kv.nbytes
        for end in range(BLOCK, len(ids) + 1, BLOCK):
            key = hash(ids[:end])
            if self._index.get(key) == number:
                del self._index[key]
