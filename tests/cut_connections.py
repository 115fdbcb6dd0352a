"""A proxy whose connections can be cut in the middle of an answer."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

BEGINNING = 6000
"""Bytes of an answer that arrive: a few tokens with their alternatives."""


class Proxy:
    """Passes on what goes to and comes from the server at ``url``; it has a ``url`` of its own."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._to, self._path = (str(parts.hostname), parts.port), parts.path
        self._left: int | None = None
        self.url = ""

    def cut(self) -> None:
        """Let the connection of the next answer break, once."""
        self._left = BEGINNING

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        async with await asyncio.start_server(self._connected, "127.0.0.1", 0) as server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{self._path}"
            yield self

    async def _connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        answers, questions = await asyncio.open_connection(*self._to)
        asking = asyncio.create_task(self._pass_on(reader, questions))
        await self._answer(answers, writer)
        asking.cancel()
        questions.close()
        writer.close()

    async def _pass_on(self, reader: StreamReader, writer: StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
        writer.close()

    async def _answer(self, reader: StreamReader, writer: StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            left, self._left = self._left, None
            writer.write(data[:left])
            if left is not None and left < len(data):
                return
            self._left = None if left is None else left - len(data)
