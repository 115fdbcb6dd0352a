"""Connections of strangers: how long a request's head may take, how large it may be, how many there are.

Bodies are bounded where it is known whose they are (`stepwise.gateway.entrance.Bodies`).
"""

from __future__ import annotations

from asyncio import BaseTransport, Protocol, TimerHandle
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of all connections of one server.

    Attributes:
        connections: at once. Where there are more, the one that has owed a request for the longest is closed:
            whoever holds many open closes their own.
        head_s: seconds until the whole head of a request is there, from the connection's start or the answer
            before it.
        head_bytes: of a request, its first line and its headers.
        unread_s: seconds in which a client reads nothing of an answer that is ready for it.
        owing: connections that have sent no whole request, the longest wait first.
    """

    connections: int
    head_s: float = 10.0
    head_bytes: int = 65_536
    unread_s: float = 60.0
    owing: dict[Connection, None] = field(default_factory=dict)


def protocol(bounds: Bounds) -> type[Protocol]:
    """What uvicorn makes for every connection: a class, or anything that is called like one."""
    return cast(type[Protocol], partial(Connection, bounds))


class Connection(HttpToolsProtocol):
    """uvicorn's, with bounds that it does not have."""

    def __init__(self, bounds: Bounds, **given: Any) -> None:
        super().__init__(**given)
        self._bounds = bounds
        self._deadline: TimerHandle | None = None
        self._head: int | None = None  # bytes of the head that is coming in

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._expect_request()
        if len(self.connections) > self._bounds.connections:
            next(iter(self._bounds.owing)).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._bounds.owing.pop(self, None)
        self._within(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head is not None and not self.transport.is_closing():
            self._head += len(data)
            if self._head > self._bounds.head_bytes:
                self.send_400_response(f"The request's head is larger than {self._bounds.head_bytes} bytes.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = 0

    def on_headers_complete(self) -> None:
        self._head = None
        if self in self._bounds.owing:  # else it was sent before the answer to another one is out
            self._within(None)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        if not self.cycle.response_complete:  # else it was answered before its end, and the next is owed
            self._bounds.owing.pop(self, None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        more = bool(self.pipeline)
        super().on_response_complete()
        if not more:
            self._expect_request()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._within(self._bounds.unread_s)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self not in self._bounds.owing:
            self._within(None)

    def _expect_request(self) -> None:
        self._bounds.owing.pop(self, None)
        self._bounds.owing[self] = None
        self._within(self._bounds.head_s)

    def _within(self, seconds: float | None) -> None:
        """Close in so many seconds, whatever is still to be written, and not before."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self.loop.call_later(seconds, self.transport.abort)
