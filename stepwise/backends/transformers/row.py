"""A request to the embedded backend, and how it is read while it is being decoded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import torch

from stepwise.engine.backend import Chunk, Completion, Sampling
from stepwise.engine.boundaries import Scanner
from stepwise.errors import BackendError
from stepwise.types import Finish, Usage


@dataclass(eq=False)
class BatchRow:
    """A request while it is being decoded."""

    ids: list[int]
    start: int
    sampling: Sampling
    done: Future[Completion] = field(default_factory=Future)
    cached: int = 0
    chosen: list[float] = field(default_factory=list)
    top: list[list[float]] = field(default_factory=list)
    scanner: Scanner = field(init=False)
    finish: Finish | None = None
    """Known before the last token's ``top``, so that whoever reads along never takes an end for a token."""
    generator: torch.Generator | None = None
    abandoned: bool = False
    broken: BackendError | None = None
    """Why no token could be chosen for it."""
    wake: Callable[[], None] | None = None
    """Called in the worker thread when there is a new token, by whoever reads along."""

    def __post_init__(self) -> None:
        self.scanner = self.sampling.ends.scan()

    @property
    def usage(self) -> Usage:
        """What has been computed for it; nothing before its prompt."""
        if not self.top:
            return Usage()
        written = 0 if self.sampling.read else len(self.top)
        return Usage(prompt=self.start, cached=self.cached, completion=written)

    @property
    def known(self) -> int:
        """Tokens whose keys and values have been computed: the last one that was written is not read."""
        return len(self.ids) - (0 if self.sampling.read else 1)

    async def leave(self) -> None:
        """Let the worker drop it: it does so after the token that it is computing, which counts."""
        self.abandoned = True
        await asyncio.wait({asyncio.wrap_future(self.done)})


class RowGeneration:
    """A request that is read while it is being decoded: the worker appends to its row, this looks on."""

    def __init__(self, row: BatchRow, submit: Callable[[BatchRow], BatchRow]) -> None:
        self._row = row
        self._submit = submit
        self._news = asyncio.Event()
        self._read = 0
        self._begun = False

    @property
    def prompt(self) -> Usage:
        return replace(self._row.usage, completion=0)

    @property
    def unread(self) -> int:
        return len(self._row.top) - self._read

    async def read(self, mark: str = "", limit: int = 1) -> Chunk:
        row = self._row
        if not self._begun:
            self._begin()
        while len(row.top) == self._read and not row.done.done():
            await self._news.wait()
            self._news.clear()
        if row.done.done():
            row.done.result()  # raises what broke it
        new = slice(self._read, len(row.top))
        finish = row.finish if new.stop == len(row.chosen) else None
        self._read = new.stop
        ids = tuple(row.ids[row.start + new.start : row.start + new.stop])
        return Chunk(ids, row.chosen[new], row.top[new], finish)

    async def stop(self) -> None:
        if self._begun:
            await self._row.leave()

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()

        def wake(*_: object) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._news.set)

        self._row.wake = wake
        self._row.done.add_done_callback(wake)
        self._submit(self._row)
        self._begun = True
