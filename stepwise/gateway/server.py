"""Running the app: a socket, uvicorn, and an end that frees the models.

It listens first. While models are loaded and servers are asked, ``/health`` answers, and what needs a model
is told to come back; what may be down does not keep the gateway from starting.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from stepwise.engine.engine import Engine
from stepwise.errors import BackendError, ConfigError
from stepwise.gateway.connections import Bounds, protocol
from stepwise.gateway.failures import Refusal
from stepwise.gateway.log import JsonLines, log
from stepwise.gateway.operations import healthy
from stepwise.gateway.page import starting


def bind(host: str, port: int) -> socket.socket:
    """Take a port, before anything that takes long.

    Raises:
        ConfigError: if it cannot be had.
    """
    if not 0 <= port < 2**16:
        raise ConfigError(f"port must lie between 0 and 65535, not {port}.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise ConfigError(f"host and port: {host}:{port} cannot be bound: {error}.") from error
    return listening


SPARE_FILES = 64
"""Open files beside connections: models, the store, the log."""
MOST_CONNECTIONS = 65_536


def most_connections(chains: int) -> int:
    """Connections of clients, so that so many chains can still reach their servers."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = limit - chains - SPARE_FILES if limit >= 0 else MOST_CONNECTIONS
    return min(max(room, chains), MOST_CONNECTIONS)


def note_open_files(chains: int) -> None:
    """Say in the log where the system's limit is too low for so many chains: each may hold a connection of
    its client and one to a server."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * chains + SPARE_FILES
    if 0 <= limit < needed:
        log(
            "open files",
            error=f"the limit is {limit}, and {chains} chains may need {needed}: ulimit -n {needed}.",
        )


Build = Callable[[], tuple[FastAPI, Engine]]
"""Loads the models, or connects to them, and makes the app over them."""


def serve(
    build: Build, listening: socket.socket, *, drain: int, bounds: Bounds, ready: Callable[[], None]
) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP, finish what is in flight, close the engine.

    Args:
        build: runs in a thread, once the gateway listens.
        drain: seconds that what is in flight may take.
        bounds: of the connections of clients.
        ready: called once requests are taken.

    Raises:
        ConfigError: whatever ``build`` raises.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    for name, level in (("stepwise.gateway", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate, logger.level = [handler], False, level
    door = Door()
    settings = uvicorn.Config(
        door, http=protocol(bounds), ws="none", log_config=None, access_log=False,
        timeout_graceful_shutdown=drain, lifespan="off",
    )  # fmt: skip
    # uvicorn's own choice of an event loop, where it has one
    with asyncio.Runner(loop_factory=settings.get_loop_factory()) as runner:
        runner.run(_serve(Server(settings), door, build, listening, ready))


async def _serve(
    server: Server, door: Door, build: Build, listening: socket.socket, ready: Callable[[], None]
) -> None:
    serving = asyncio.create_task(server.serve([listening]))
    try:
        app, engine = await asyncio.to_thread(build)
    except BaseException:
        server.should_exit = True
        await serving
        raise
    warming = asyncio.create_task(_warm(engine))
    try:
        async with app.router.lifespan_context(app):
            door.app = app
            ready()
            await serving
    finally:
        warming.cancel()
        await asyncio.wait({warming})
        await engine.close()


class Door:
    """Stands before the app, and answers for it while it is being built."""

    app: FastAPI | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.app is not None:
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._early(Request(scope))(scope, receive, send)

    @staticmethod
    def _early(request: Request) -> Response:
        path = request.url.path
        if path == "/health":
            return JSONResponse(healthy())
        if path == "/" and "text/html" in request.headers.get("accept", ""):
            return starting()
        message = "the gateway is starting: its models are being loaded."
        return Refusal(503, message, code="starting", retry_after=1).response()


class Server(uvicorn.Server):
    """Hands back when a signal has ended it, of which uvicorn would die."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        ends = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        for number in ends:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in ends:
                loop.remove_signal_handler(number)


async def _warm(engine: Engine) -> None:
    """Let every model write one token, so that the first request need not wait for its start."""

    async def one_token(model: str) -> None:
        chain = engine.start("1 + 1")
        try:
            await engine.draft(chain, model, tokens=1)
        except BackendError as error:  # it may come back while the gateway serves
            log("warm", model=model, error=str(error))
        finally:
            await engine.abandon(chain)

    await asyncio.gather(*map(one_token, engine.models))
