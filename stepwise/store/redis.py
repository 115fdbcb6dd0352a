"""The step store on a Redis or Valkey server, for the processes of many machines.

    redis://HOST:6379/0?ttl_days=30&password_env=REDIS_PASSWORD

Entries are single keys, set once (``SET NX``): two writers of the same completion leave the first. Each is
dropped ``ttl_days`` after it was written; within that time the server's ``maxmemory`` and its policy are the
bound (``allkeys-lru`` forgets what nobody reads, and it is generated again when asked for).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any

from stepwise.engine.backend import Completion
from stepwise.errors import ConfigError
from stepwise.store.redis_server import Address, answering, connect, read_address
from stepwise.store.steps import Entry, dump, load

PREFIX = b"stepwise:step:"
TTL_DAYS = 30.0


class RedisStore:
    """Completions on a server.

    Args:
        address: as above; ``volatile=yes`` accepts a server that keeps nothing on disk, where a run that is
            resumed after the server's restart pays again for what it had generated.

    Raises:
        ConfigError: if the address is malformed, the server cannot be used, or it keeps nothing on disk.
    """

    remote = True

    def __init__(self, address: str) -> None:
        self._address = read_address(address, "store", "ttl_days", "volatile")
        self._ttl = timedelta(days=_ttl_days(self._address))
        self._redis: Any = connect(self._address, "store")
        if self._address.options.get("volatile", "no") != "yes":
            _refuse_volatile(self._redis, self._address)

    def get(self, key: bytes) -> Completion | None:
        return self.get_many([key])[0]

    def put(self, key: bytes, completion: Completion) -> None:
        self.put_many([(key, completion)])

    def get_many(self, keys: Sequence[bytes]) -> list[Completion | None]:
        """What is known, in one round trip.

        Raises:
            BackendError: if the server fails for longer than it is waited for.
        """
        if not keys:
            return []
        with answering(self._address, "store"):
            values = self._redis.mget([PREFIX + key for key in keys])
        return [None if value is None else load(value) for value in values]

    def put_many(self, entries: Iterable[Entry]) -> int:
        """Keep all in one round trip; each entry by itself is kept whole or not at all.

        Raises:
            BackendError: as `get_many`.
        """
        with answering(self._address, "store"), self._redis.pipeline(transaction=False) as pipeline:
            for key, completion in entries:
                pipeline.set(PREFIX + key, dump(completion), nx=True, ex=self._ttl)
            return sum(map(bool, pipeline.execute()))

    def pages(self, size: int = 1000) -> Iterator[list[Entry]]:
        cursor = -1
        while cursor:
            with answering(self._address, "store"):
                cursor, names = self._redis.scan(max(cursor, 0), match=PREFIX + b"*", count=size)
            keys = [name.removeprefix(PREFIX) for name in names]
            known = zip(keys, self.get_many(keys), strict=True)
            yield [(key, completion) for key, completion in known if completion is not None]

    def close(self) -> None:
        self._redis.close()


def _ttl_days(address: Address) -> float:
    text = address.options.get("ttl_days", str(TTL_DAYS))
    try:
        days = float(text)
    except ValueError:
        days = 0.0
    if not 1e-5 <= days <= 36_500:
        raise ConfigError(f"store: ttl_days must be a number of days above 0, not {text!r}.")
    return days


def _refuse_volatile(server: Any, address: Address) -> None:
    """Raises:
    ConfigError: if a restart of the server would lose what is stored, or the server does not tell.
    """
    import redis

    try:
        settings = {**server.config_get("appendonly"), **server.config_get("save")}
    except redis.ResponseError as error:
        raise ConfigError(
            f"store: {address.shown} does not tell whether it keeps data on disk ({error}); add "
            "?volatile=yes if it does, or if a run need not survive its restart."
        ) from error
    if settings["appendonly"] != "yes" and not settings["save"]:
        raise ConfigError(
            f"store: {address.shown} keeps nothing on disk, so that a run could not be resumed after its "
            "restart; start it with --appendonly yes, or add ?volatile=yes to the address."
        )
