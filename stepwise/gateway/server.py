"""Running the app: a socket, uvicorn, and an end that frees the models."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from stepwise.engine.engine import Engine
from stepwise.errors import BackendError, ConfigError
from stepwise.gateway.log import JsonLines, log


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


def serve(
    app: FastAPI, engine: Engine, listening: socket.socket, *, drain: int, ready: Callable[[], None]
) -> None:
    """Serve until SIGINT or SIGTERM, finish what is in flight, close the engine.

    Args:
        drain: seconds that what is in flight may take.
        ready: called once requests are taken.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    for name, level in (("stepwise.gateway", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate, logger.level = [handler], False, level
    settings = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=drain)
    # uvicorn's own choice of an event loop, where it has one
    with asyncio.Runner(loop_factory=settings.get_loop_factory()) as runner:
        runner.run(_serve(Server(settings, ready), engine, listening))


async def _serve(server: Server, engine: Engine, listening: socket.socket) -> None:
    try:
        await _warm(engine)
        await server.serve([listening])
    finally:
        await engine.close()


class Server(uvicorn.Server):
    """Says when it is ready, and hands back when a signal has ended it, of which uvicorn would die."""

    def __init__(self, settings: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(settings)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        ends = (signal.SIGINT, signal.SIGTERM)
        for number in ends:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in ends:
                loop.remove_signal_handler(number)


async def _warm(engine: Engine) -> None:
    """Let every model write one token, so that the first request need not wait for its start."""
    chain = engine.start("1 + 1")
    for model in engine.models:
        try:
            await engine.draft(chain, model, tokens=1)
        except BackendError as error:  # it may come back while the gateway serves
            log("warm", model=model, error=str(error))
