"""What runs in a worker's process: a service that its recipe builds there."""

from __future__ import annotations

import asyncio
import hashlib
import os
import platform
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol


class Service(Protocol):
    """Answers calls; ``about`` says what there is to know of it before the first."""

    @property
    def about(self) -> Any: ...

    async def __call__(self, *arguments: Any) -> Any: ...

    async def close(self) -> None: ...


Recipe = Callable[[], Service]
"""Builds a service wherever it is called. It travels pickled, so it holds values and no connections."""


class Worker:
    """Builds its service once, with the first call, in the folder that the driver runs in where there is one.

    It is made anew wherever the cluster starts it again; what it had in flight is the driver's to repeat.
    """

    def __init__(self, recipe: Recipe, folder: str) -> None:
        self._recipe, self._folder = recipe, folder
        self._service: Service | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> tuple[Any, str]:
        """The service's ``about``, and which code it runs."""
        service = await self._opened()
        return service.about, code_version()

    async def call(self, *arguments: Any) -> Any:
        service = await self._opened()
        return await service(*arguments)

    async def process(self) -> int:
        """The process's id."""
        return os.getpid()

    async def _opened(self) -> Service:
        async with self._opening:
            if self._service is None:
                if Path(self._folder).is_dir():
                    os.chdir(self._folder)
                # In a thread: models load for minutes, and servers are asked with calls that block.
                self._service = await asyncio.to_thread(self._recipe)
        return self._service


@lru_cache
def code_version() -> str:
    """Identifies this copy of stepwise, and the Python that runs it."""
    digest = hashlib.blake2b(digest_size=6)
    root = Path(__file__).parents[1]
    for file in sorted(root.rglob("*.py")):
        digest.update(file.relative_to(root).as_posix().encode() + file.read_bytes())
    return f"{digest.hexdigest()} on Python {platform.python_version()}"
