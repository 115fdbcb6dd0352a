"""Keys and values of the sequences that are being decoded together."""

from __future__ import annotations

from typing import Any

import torch

from stepwise.errors import BackendError

GROWTH = 256
"""The batch's key-value buffer grows in steps of this many tokens."""


class BatchCache:
    """Keys and values of the running batch, in the shape that `transformers` attention asks for.

    Rows are compact: row i of the buffer is request i of the batch. `transformers` calls `update`
    once per layer and attends over what it returns.
    """

    def __init__(self, layers: int, rows: int) -> None:
        self._layers, self._rows = layers, rows
        self.buffer: torch.Tensor | None = None
        self._at: tuple[int, torch.Tensor, torch.Tensor, int] | None = None

    def place(self, low: int, positions: torch.Tensor) -> None:
        """Say where the next forward pass writes: rows from ``low``, at ``positions`` [rows, new]."""
        rows = torch.arange(low, low + positions.shape[0], device=positions.device)[:, None]
        self._at = (low, rows, positions, int(positions.max()) + 1)

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write [rows, heads, new, size] and return everything up to the last position."""
        if self._at is None:
            raise BackendError("the batch cache was used outside of a forward pass.")
        low, rows, positions, end = self._at
        buffer = self.reserve(end, keys)
        buffer[layer, 0][rows, :, positions] = keys.transpose(1, 2)
        buffer[layer, 1][rows, :, positions] = values.transpose(1, 2)
        high = low + positions.shape[0]
        return buffer[layer, 0, low:high, :, :end], buffer[layer, 1, low:high, :, :end]

    def reserve(self, tokens: int, like: torch.Tensor) -> torch.Tensor:
        """The buffer [layers, 2, rows, heads, tokens, size], grown to hold ``tokens``."""
        old = self.buffer
        if old is not None and old.shape[4] >= tokens:
            return old
        room = -(-tokens // GROWTH) * GROWTH
        heads, size = like.shape[1], like.shape[-1]
        new = torch.zeros(
            (self._layers, 2, self._rows, heads, room, size), dtype=like.dtype, device=like.device
        )
        if old is not None:
            new[:, :, :, :, : old.shape[4]] = old
        self.buffer = new
        return new

    def copy_out(self, row: int, tokens: int) -> torch.Tensor | None:
        return None if self.buffer is None else self.buffer[:, :, row, :, :tokens].clone()

    def copy_in(self, row: int, kv: torch.Tensor) -> None:
        buffer = self.reserve(kv.shape[3], kv[0])
        buffer[:, :, row, :, : kv.shape[3]] = kv

    def move(self, source: int, target: int, tokens: int) -> None:
        if self.buffer is not None:
            self.buffer[:, :, target, :, :tokens] = self.buffer[:, :, source, :, :tokens]
