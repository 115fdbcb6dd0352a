"""A Redis or Valkey server by its address.

    redis://[USER@]HOST[:PORT][/DATABASE][?OPTION=VALUE&...]     rediss:// for TLS

The options ``password_env`` (name of the environment variable with the password) and ``ca_file`` (of a
private authority, for TLS) say how to connect; whoever opens an address may know more of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from stepwise.errors import BackendError, ConfigError
from stepwise.extras import require

if TYPE_CHECKING:
    from redis import Redis

TIMEOUT_S = 5.0
SCHEMES = ("redis://", "rediss://")
RETRIES, FIRST_WAIT_S, LONGEST_WAIT_S = 6, 0.1, 2.0
"""A server that restarts is waited for: about 5 seconds in all."""


@dataclass(frozen=True)
class Address:
    """Where a server is, and what else its address says.

    Attributes:
        shown: without its options, for messages.
        options: those that say nothing about the connection.
    """

    shown: str
    host: str
    port: int
    database: int
    user: str | None
    password_env: str
    tls: bool
    ca_file: str
    options: Mapping[str, str] = field(default_factory=dict)


def read_address(text: str, what: str, *known: str) -> Address:
    """Take an address apart.

    Args:
        what: the setting that it was given as.
        known: names of the options that the caller understands.

    Raises:
        ConfigError: if it is malformed, has an unknown option, or carries a password.
    """
    parts, options = urlsplit(text), dict(parse_qsl(urlsplit(text).query, keep_blank_values=True))
    accepted = ("password_env", "ca_file", *known)
    unknown = sorted(options.keys() - set(accepted))
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    if parts.password is not None:
        raise ConfigError(
            f"{what}: {shown} was given with a password; put it into an environment variable and name that "
            "with ?password_env=NAME."
        )
    if unknown:
        raise ConfigError(f"{what}: {shown} takes the options {', '.join(accepted)}, not {unknown[0]!r}.")
    return Address(
        shown=shown, host=_host(parts, what), port=_port(parts, what), database=_database(parts, what),
        user=parts.username, password_env=options.pop("password_env", ""), tls=parts.scheme == "rediss",
        ca_file=options.pop("ca_file", ""), options=options,
    )  # fmt: skip


def connect(
    address: Address, what: str, *, timeout_s: float | None = None, retries: int | None = None
) -> Redis:
    """A client whose server has answered. Calls are retried while a server restarts.

    Args:
        timeout_s, retries: of a call; unless given, those that wait for a restart.

    Raises:
        ConfigError: if the client is not installed, the password's variable is not set, the file of
            authorities is missing, or the server cannot be reached, refuses the password or has no such
            database.
    """
    require("redis://", "cluster", "redis")
    import redis
    from redis.backoff import ExponentialBackoff
    from redis.retry import Retry

    if address.password_env and address.password_env not in os.environ:
        raise ConfigError(f"{what}: the environment variable {address.password_env!r} is not set.")
    if address.ca_file and not Path(address.ca_file).is_file():
        raise ConfigError(f"{what}: ca_file: there is no file {address.ca_file!r}.")
    secure: dict[str, Any] = {"ssl": True, "ssl_ca_certs": address.ca_file or None} if address.tls else {}
    client = redis.Redis(
        host=address.host, port=address.port, db=address.database, username=address.user,
        password=os.environ.get(address.password_env) if address.password_env else None,
        socket_timeout=timeout_s or TIMEOUT_S, socket_connect_timeout=timeout_s or TIMEOUT_S,
        retry=Retry(
            ExponentialBackoff(cap=LONGEST_WAIT_S, base=FIRST_WAIT_S), RETRIES if retries is None else retries
        ),
        **secure,
    )  # fmt: skip
    try:
        with redis.Redis.from_pool(redis.ConnectionPool(**_impatient(client))) as once:
            once.ping()
    except redis.AuthenticationError as error:
        raise ConfigError(f"{what}: {_refused(address)}") from error
    except redis.ResponseError as error:
        raise ConfigError(f"{what}: {_response(address, error)}") from error
    except (redis.RedisError, OSError) as error:
        raise ConfigError(f"{what}: {address.shown} cannot be reached: {error}") from error
    return client


@contextmanager
def answering(address: Address, what: str) -> Iterator[None]:
    """A failure of the server, met while working, is a `BackendError` that may pass."""
    import redis

    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise BackendError(f"{what}: {address.shown} failed: {error}", retryable=True) from error


def _impatient(client: Redis) -> dict[str, Any]:
    """How a client connects, but failing at once."""
    pool = client.connection_pool
    return {**pool.connection_kwargs, "retry": None, "connection_class": pool.connection_class}


def _refused(address: Address) -> str:
    if not address.password_env:
        return f"{address.shown} wants a password; name its environment variable with ?password_env=NAME."
    return f"{address.shown} refuses the password in {address.password_env}."


def _response(address: Address, error: Exception) -> str:
    if "DB index" in str(error):
        return f"{address.shown} has no database {address.database}; name another one after the port, as /0."
    return f"{address.shown} refuses to work: {error}"


def _host(parts: SplitResult, what: str) -> str:
    if not parts.hostname:
        raise ConfigError(f"{what}: {parts.geturl()!r} names no host; expected redis://HOST:PORT/DATABASE.")
    return parts.hostname


def _port(parts: SplitResult, what: str) -> int:
    try:
        return parts.port or 6379
    except ValueError as error:
        raise ConfigError(f"{what}: the port in {parts.netloc!r} must be a number up to 65535.") from error


def _database(parts: SplitResult, what: str) -> int:
    name = parts.path.strip("/") or "0"
    if not name.isdecimal():
        raise ConfigError(f"{what}: the database in {parts.geturl()!r} must be a number, not {name!r}.")
    return int(name)
