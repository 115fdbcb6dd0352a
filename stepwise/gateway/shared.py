"""Spending as one of several replicas that share their accounts (`stepwise.gateway.redis_accounts`).

A tenant with a limit is let in by the server, which knows what all replicas have spent and hold. Everything
else is told to it soon after it has happened: a replica never waits to say what a chain has cost.

While the server is down nothing is forgotten. Tenants with limits are refused, or each replica lets them in
for its share of what was left when it last heard. The server's return is noticed within a second, and the
accounts there become right again.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from contextlib import suppress

from msgspec.structs import asdict

from stepwise.calibration import OnlineThreshold
from stepwise.errors import BackendError
from stepwise.gateway.failures import Refusal
from stepwise.gateway.keys import Tenant
from stepwise.gateway.log import log
from stepwise.gateway.recent import RECENT, Entry, Recent
from stepwise.gateway.redis_accounts import (
    LEASE_S,
    Learned,
    Lessons,
    RedisAccounts,
    Reply,
    Report,
    Standing,
    Verdict,
)
from stepwise.gateway.spending import HORIZON, Reservation, Spending

RENEW_S = LEASE_S / 3
"""Seconds between two signs of life."""
KNOCK_S = 0.5
"""Seconds between two tries to reach a server that is down."""
LESSONS = 10_000
"""Most chains that the threshold learns from later, when the server is back."""

Ask = tuple[Reservation, asyncio.Future[Verdict | None]]
Said = tuple[Sequence[Report], Lessons | None, Sequence[tuple[str, Entry]]]


class SharedSpending(Spending):
    """Keeps accounts together with other replicas.

    Args:
        server: where the accounts are.
        online: the default router's moving threshold, which all replicas move together.
        tenants: whose limits are known before they ask.

    Attributes:
        away: whether the server is down, as far as is known.

    Raises:
        BackendError: if the server fails now.
    """

    def __init__(
        self, server: RedisAccounts, online: OnlineThreshold | None = None, tenants: Sequence[Tenant] = ()
    ) -> None:
        super().__init__(online)
        self.recent: SharedRecent = SharedRecent(self, server)
        self.away = False
        self._server = server
        self._start = 0.0 if online is None else online.position
        self._limited = {tenant.name: tenant for tenant in tenants if tenant.spend is not None}
        self._known, self._changes = dict(self._limited), dict(self._limited)
        self._standing: dict[str, Standing] = {}
        self._replicas = 1
        self._inside: defaultdict[str, set[Reservation]] = defaultdict(set)
        self._asks: list[Ask] = []
        self._lessons: list[tuple[float, float]] = []
        self._taught = 0
        self._trip: asyncio.Task[None] | None = None
        self._exchange_now()

    async def admit(self, reservation: Reservation) -> None:
        """As `Spending.admit`, by what all replicas have spent and run.

        Raises:
            Refusal: 429 above a limit; 503 while the server is down and that is the policy.
        """
        tenant = reservation.tenant
        if tenant.spend is None and tenant.concurrency is None:
            return
        self._turn_day()
        verdict: Verdict | None = None
        if not self.away:
            future: asyncio.Future[Verdict | None] = asyncio.get_running_loop().create_future()
            self._asks.append((reservation, future))
            self._note(tenant)
            verdict = await future
        if verdict is None:
            verdict = self._by_share(reservation)
        if verdict == "spend":
            self._refuse_above_limit(tenant, float("inf"))
        if verdict == "concurrency":
            message = f"this key may run {tenant.concurrency} chains at once. Try again in 1 s."
            raise Refusal(429, message, code="key_concurrency", retry_after=1)

    def leave(self, reservation: Reservation) -> None:
        if reservation in self._inside[reservation.tenant.name]:
            self._inside[reservation.tenant.name].discard(reservation)
            self._note(reservation.tenant)

    def charge(self, tenant: Tenant, cost: float) -> None:
        super().charge(tenant, cost)
        self._note(tenant)

    def learn(self, cost: float, alone: float) -> None:
        """As `Spending.learn`; the server takes the lessons of all replicas, one after the other."""
        if self.online is None or alone <= 0.0:
            return
        super().learn(cost, alone)
        if len(self._lessons) < LESSONS:
            self._lessons.append((cost, alone))
        self._go()

    def save(self) -> None:
        """Nothing lies here: what changes is told to the server at once."""

    async def keep_saved(self) -> None:
        """Give signs of life, and look for a server that is down, until cancelled."""
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(KNOCK_S)
            if self.away or time.monotonic() - renewed >= RENEW_S:
                renewed = time.monotonic()
                inside = {name for name, reservations in self._inside.items() if reservations}
                self._changes |= self._limited | {name: self._known[name] for name in inside}
                self._go(knock=True)

    async def close(self) -> None:
        """Say what is not said yet, and leave. With the server down, what was spent since stays unsaid."""
        if self._trip is not None:
            await asyncio.wait({self._trip})
        try:
            self._exchange_now()
            self._server.leave()
        except BackendError as error:
            log("state", error=str(error))

    def speak(self) -> None:
        """Tell the server what is new, unless it is down."""
        self._go()

    def _elsewhere(self, tenant: Tenant) -> float:
        standing = self._of_today(tenant)
        return 0.0 if standing is None else standing.spent - standing.report.spent

    def _of_today(self, tenant: Tenant) -> Standing | None:
        standing = self._standing.get(tenant.name)
        return standing if standing is not None and standing.report.day == self._day else None

    def _by_share(self, reservation: Reservation) -> Verdict:
        """Without the server: an equal part of what was left at the last report is this replica's to spend.

        Raises:
            Refusal: 503, if nobody with limits is let in then.
        """
        tenant = reservation.tenant
        if self._server.down == "refuse":
            raise Refusal(
                503, f"the accounts at {self._server.shown} cannot be reached, and this key has limits.",
                code="state_unavailable", retry_after=1,
            )  # fmt: skip
        now, then = self._report(tenant, []), self._of_today(tenant)
        if tenant.concurrency is not None:
            most = max(tenant.concurrency // self._replicas, 1)
            if now.running + reservation.chains > most:
                return "concurrency"
        if tenant.spend is not None:
            share = (tenant.spend - (then.taken if then else 0.0)) / self._replicas
            taken = now.spent + now.held - (then.own if then else 0.0)
            for amount in reservation.amounts:
                if taken >= share:
                    return "spend"
                taken += amount
        self._inside[tenant.name].add(reservation)
        return "in"

    def _note(self, tenant: Tenant) -> None:
        self._known[tenant.name] = self._changes[tenant.name] = tenant
        self._go()

    def _go(self, *, knock: bool = False) -> None:
        """Talk to the server now, or as soon as it has answered what was said before."""
        if self._trip is None and (knock or not self.away):
            self._trip = asyncio.create_task(self._talk())

    async def _talk(self) -> None:
        """Round trips, one at a time, until nothing is left to say."""
        asks: list[Ask] = []
        try:
            while True:
                asks, self._asks = self._asks, []
                said = self._say(asks)
                self._hear(said, asks, await asyncio.to_thread(self._server.exchange, *said))
                if not (self._asks or self._changes or self._lessons or self.recent.untold):
                    break
        except BackendError as error:
            if not self.away:
                log("state", error=str(error))
            self.away, self._changes = True, dict(self._known)
        finally:
            self._trip = None
            for _, future in (*asks, *self._asks):
                if not future.done():  # nobody knows: the policy decides
                    future.set_result(None)
            self._asks.clear()

    def _exchange_now(self) -> None:
        """Outside of an event loop, or when it ends."""
        said = self._say([])
        self._hear(said, [], self._server.exchange(*said))

    def _say(self, asks: Sequence[Ask]) -> Said:
        """What is new here. It stays new until the server has heard it."""
        self._turn_day()
        waiting = _by_tenant(asks)
        tenants = self._changes | {name: group[0][0].tenant for name, group in waiting.items()}
        self._changes = {}
        reports = [
            self._report(tenant, [reservation.amounts for reservation, _ in waiting[name]])
            for name, tenant in tenants.items()
        ]
        lessons = None
        if self.online is not None:
            lessons = Lessons(
                self.online.target, self.online.rate, self.online.decay, HORIZON, self._start,
                self._taught, tuple(self._lessons),
            )  # fmt: skip
        return reports, lessons, tuple(self.recent.untold)

    def _report(self, tenant: Tenant, asks: Sequence[Sequence[float]]) -> Report:
        inside = self._inside[tenant.name]
        held = sum(amount for reservation in inside for amount in reservation.amounts)
        running = sum(reservation.chains for reservation in inside)
        return Report(tenant, self._day, self._spent[tenant.name], held, running, asks)

    def _hear(self, said: Said, asks: Sequence[Ask], reply: Reply) -> None:
        """What the server answered to what was said."""
        if self.away:
            self.away = False
            log("state", back=self._server.shown)
        self._replicas = max(reply.replicas, 1)
        waiting = _by_tenant(asks)
        for standing in reply.standings:
            name = standing.report.tenant.name
            self._standing[name] = standing
            for (reservation, future), verdict in zip(waiting[name], standing.verdicts, strict=True):
                self._answer(reservation, future, verdict)
        _, lessons, recent = said
        self.recent.forget(len(recent))
        if lessons is not None and reply.learned is not None:
            self._take(lessons, reply.learned)

    def _answer(
        self, reservation: Reservation, future: asyncio.Future[Verdict | None], verdict: Verdict
    ) -> None:
        if future.done():  # the request was given up meanwhile: state anew what is held
            self._note(reservation.tenant)
            return
        if verdict == "in":
            self._inside[reservation.tenant.name].add(reservation)
        future.set_result(verdict)

    def _take(self, lessons: Lessons, learned: Learned) -> None:
        """Stand where all replicas' chains have moved the threshold, and move it by those from here that the
        server does not know yet."""
        if self.online is None:
            return
        self._taught += len(lessons.pairs)
        del self._lessons[: len(lessons.pairs)]
        self.online.restore(asdict(learned.online))
        self._alone, self._seen = learned.alone, learned.seen
        for cost, alone in self._lessons:
            super().learn(cost, alone)


class SharedRecent(Recent):
    """The last chains of all replicas; of this one alone while the server is down."""

    def __init__(self, spending: SharedSpending, server: RedisAccounts) -> None:
        super().__init__()
        self._spending, self._server = spending, server
        self.untold: deque[tuple[str, Entry]] = deque(maxlen=20 * RECENT)

    def add(self, tenant: str, entry: Entry) -> None:
        super().add(tenant, entry)
        self.untold.append((tenant, entry))
        self._spending.speak()

    def forget(self, count: int) -> None:
        """The server has heard so many."""
        for _ in range(min(count, len(self.untold))):
            self.untold.popleft()

    async def of(self, tenant: str) -> list[Entry]:
        if not self._spending.away:
            with suppress(BackendError):
                return await asyncio.to_thread(self._server.recent, tenant)
        return await super().of(tenant)


def _by_tenant(asks: Sequence[Ask]) -> defaultdict[str, list[Ask]]:
    """In their order."""
    groups: defaultdict[str, list[Ask]] = defaultdict(list)
    for ask in asks:
        groups[ask[0].tenant.name].append(ask)
    return groups
