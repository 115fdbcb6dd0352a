"""What the replicas of a gateway share, on a Redis or Valkey server: spending, what runs, the online
threshold, recent chains.

    redis://HOST:6379/1?password_env=REDIS_PASSWORD&down=allow

Whatever must not be cut in two is one script (``lua/``). The calls here block; one thread at a time makes
them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal, cast
from uuid import uuid4

from stepwise.errors import ConfigError
from stepwise.gateway.keys import Tenant
from stepwise.gateway.recent import RECENT, Entry
from stepwise.gateway.state import Position
from stepwise.store.redis_server import Address, answering, connect, read_address

PREFIX = "stepwise:gateway:"
LEASE_S = 15.0
"""A replica that has said nothing for so long is taken for dead."""
TIMEOUT_S = 2.0
"""What a call may take before the server counts as down."""
DAY_S = 86_400
LUA = files("stepwise") / "gateway" / "lua"
DOWN = ("refuse", "allow")

Verdict = Literal["in", "spend", "concurrency"]


@dataclass(frozen=True)
class Report:
    """What one replica knows of a tenant.

    Attributes:
        day: of ``spent``, in UTC.
        spent, held, running: cost of chains that ended, cost put aside for those that run, and their number;
            of this replica alone.
        asks: requests that want to be let in: the amounts that their chains put aside.
    """

    tenant: Tenant
    day: str
    spent: float
    held: float
    running: int
    asks: Sequence[Sequence[float]] = ()


@dataclass(frozen=True)
class Standing:
    """What all replicas have spent of a tenant's and hold, as of a report."""

    report: Report
    spent: float
    held: float
    verdicts: Sequence[Verdict] = ()

    @property
    def taken(self) -> float:
        return self.spent + self.held

    @property
    def own(self) -> float:
        """This replica's part of it."""
        report = self.report
        let_in = zip(report.asks, self.verdicts, strict=True)
        return report.spent + report.held + sum(sum(ask) for ask, verdict in let_in if verdict == "in")


@dataclass(frozen=True)
class Lessons:
    """What the online threshold shall learn.

    Attributes:
        start: the position of a threshold that has learned nothing.
        before: lessons of this replica that came before.
        pairs: cost and large-only cost of a chain each.
    """

    target: float
    rate: float
    decay: float
    horizon: int
    start: float
    before: int
    pairs: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Learned:
    """Where the online threshold stands; `stepwise.gateway.state.State` has the same."""

    online: Position
    alone: float
    seen: int


@dataclass(frozen=True)
class Reply:
    """Attributes:
    replicas: that are alive.
    """

    standings: Sequence[Standing]
    learned: Learned | None
    replicas: int


class RedisAccounts:
    """The accounts of one gateway, as one of its replicas reaches them. A database holds one gateway's.

    Args:
        address: as above. ``down`` says what becomes of tenants with limits while the server is down:
            "refuse" sends them away, "allow" lets each replica go on with its share of what is left.
        unit: of costs.

    Raises:
        ConfigError: if the address is malformed, the server cannot be used, counts in another unit, or may
            forget accounts when it is full.
    """

    def __init__(self, address: str, unit: str = "") -> None:
        self._address = read_address(address, "state", "down")
        self.down = _policy(self._address)
        self._redis: Any = connect(self._address, "state", timeout_s=TIMEOUT_S, retries=1)
        self.shown = self._address.shown
        self._replica = uuid4().hex[:12]
        self._admit, self._learn = ((LUA / f"{name}.lua").read_text() for name in ("admit", "learn"))
        self._refuse_forgetful()
        self._same_unit(unit)

    def exchange(
        self, reports: Sequence[Report], lessons: Lessons | None, recent: Sequence[tuple[str, Entry]]
    ) -> Reply:
        """Say what is known here and hear what all know, in one round trip.

        Raises:
            BackendError: if the server fails. Nothing is lost then: the next report says it again.
        """
        with answering(self._address, "state"), self._redis.pipeline(transaction=False) as pipeline:
            self._sign_in(pipeline)
            for report in reports:
                pipeline.eval(self._admit, 2, *self._admit_arguments(report))
            for tenant, entry in recent:
                _remember(pipeline, tenant, entry)
            if lessons is not None:
                pipeline.eval(self._learn, 2, *self._learn_arguments(lessons))
            _, _, replicas, *replies = pipeline.execute()
        standings = [_standing(report, reply) for report, reply in zip(reports, replies, strict=False)]
        return Reply(standings, _learned(lessons, replies[-1]) if lessons else None, replicas)

    def recent(self, tenant: str) -> list[Entry]:
        """A tenant's latest chains on all replicas, the newest first.

        Raises:
            BackendError: if the server fails.
        """
        with answering(self._address, "state"):
            entries = self._redis.lrange(f"{PREFIX}recent:{tenant}", 0, -1)
        return [json.loads(entry) for entry in entries]

    def leave(self) -> None:
        """This replica is no longer one of those that share.

        Raises:
            BackendError: if the server fails.
        """
        with answering(self._address, "state"):
            self._redis.zrem(f"{PREFIX}replicas", self._replica)
        self._redis.close()

    def _sign_in(self, pipeline: Any) -> None:
        """By the replicas' own clocks: a wrong one changes the shares while the server is down, no more."""
        now = time.time()
        pipeline.zadd(f"{PREFIX}replicas", {self._replica: now})
        pipeline.zremrangebyscore(f"{PREFIX}replicas", "-inf", now - LEASE_S)
        pipeline.zcard(f"{PREFIX}replicas")

    def _admit_arguments(self, report: Report) -> list[Any]:
        tenant = report.tenant
        keys = [f"{PREFIX}spent:{report.day}:{tenant.name}", f"{PREFIX}held:{tenant.name}"]
        limits = ["" if limit is None else limit for limit in (tenant.spend, tenant.concurrency)]
        own = [self._replica, LEASE_S, report.spent, report.held, report.running]
        return [*keys, *own, *limits, 2 * DAY_S, json.dumps(report.asks)]

    def _learn_arguments(self, lessons: Lessons) -> list[Any]:
        keys = [f"{PREFIX}online:{lessons.target!r}", f"{PREFIX}learned:{self._replica}"]
        rule = [lessons.horizon, lessons.rate, lessons.decay, lessons.target, lessons.start]
        return [*keys, lessons.before, *rule, DAY_S, json.dumps(lessons.pairs)]

    def _refuse_forgetful(self) -> None:
        """Raises:
        ConfigError: if the server drops keys that are in use when its memory is full.
        """
        with answering(self._address, "state"):
            memory: Mapping[str, Any] = self._redis.info("memory")
        policy = str(memory.get("maxmemory_policy", "noeviction"))
        if int(memory.get("maxmemory", 0)) and policy != "noeviction":
            raise ConfigError(
                f"state: {self.shown} forgets keys when it is full (maxmemory-policy {policy}), accounts "
                "too; use a server with noeviction, not the step store's."
            )

    def _same_unit(self, unit: str) -> None:
        """Raises:
        ConfigError: if the accounts there count in another unit.
        """
        with answering(self._address, "state"):
            self._redis.set(f"{PREFIX}unit", unit, nx=True)
            theirs = self._redis.get(f"{PREFIX}unit").decode()
        if theirs != unit:
            raise ConfigError(
                f"state: {self.shown} counts in {theirs}, this server in {unit}; pass the same --cost, or "
                "another database."
            )


def _policy(address: Address) -> str:
    down = address.options.get("down", DOWN[0])
    if down not in DOWN:
        raise ConfigError(f"state: down must be {' or '.join(DOWN)}, not {down!r}.")
    return down


def _remember(pipeline: Any, tenant: str, entry: Entry) -> None:
    key = f"{PREFIX}recent:{tenant}"
    pipeline.eval(
        "redis.call('LPUSH', KEYS[1], ARGV[1]) redis.call('LTRIM', KEYS[1], 0, ARGV[2] - 1) "
        "redis.call('EXPIRE', KEYS[1], ARGV[3])",
        1, key, json.dumps(entry), RECENT, DAY_S,
    )  # fmt: skip


def _standing(report: Report, reply: Sequence[bytes]) -> Standing:
    spent, held, *verdicts = (value.decode() for value in reply)
    return Standing(report, float(spent), float(held), cast(list[Verdict], verdicts))


def _learned(lessons: Lessons, reply: Sequence[Any]) -> Learned:
    position, count, alone, seen = reply
    return Learned(Position(lessons.target, float(position), int(count)), float(alone), int(seen))
