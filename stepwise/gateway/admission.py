"""Back-pressure: how many chains run, how many wait, and who is sent away."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, deque
from dataclasses import dataclass

from stepwise.errors import ConfigError
from stepwise.gateway.failures import Refusal
from stepwise.gateway.keys import Tenant


@dataclass(frozen=True, slots=True)
class Limits:
    """What one server accepts.

    Attributes:
        concurrency: chains that run at the same time.
        queue: chains that wait for their turn.
        body: bytes of a request.
        tokens: completion tokens of one chain; None for the step rule's own limits.
        seconds: from a request's arrival to the end of its answer, waiting included.
    """

    concurrency: int = 128
    queue: int = 256
    body: int = 1_000_000
    tokens: int | None = None
    seconds: float = 300.0

    def __post_init__(self) -> None:
        for name in ("concurrency", "body", "seconds", "tokens"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} must be more than 0, not {value}.")
        if self.queue < 0:
            raise ConfigError(f"queue must be at least 0, not {self.queue}.")


class Ticket:
    """A request's chains: in line, then running, then gone. `release` is due whatever happens."""

    def __init__(self, tenant: Tenant, chains: int) -> None:
        self.tenant, self.chains = tenant, chains
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.begun: float | None = None
        self.released = False


class Admission:
    """Admits chains, first come, first served. Belongs to one event loop."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.running = 0
        self._by_tenant: Counter[str] = Counter()
        self._line: deque[Ticket] = deque()
        self._seconds = 1.0

    @property
    def waiting(self) -> int:
        """Chains in the queue."""
        return sum(ticket.chains for ticket in self._line)

    def ask(self, tenant: Tenant, chains: int) -> Ticket:
        """A place in line; its ``turn`` is over at once where there is room.

        Raises:
            Refusal: 400 if it could never be let in; 429 with Retry-After if it may be later.
        """
        most = min(self.limits.concurrency, tenant.concurrency or self.limits.concurrency)
        if chains > most:
            message = f"prompts x n must be at most {most}, the chains that may run at once, not {chains}."
            raise Refusal(400, message, code="too_many_chains", param="n")
        if self._by_tenant[tenant.name] + chains > (tenant.concurrency or math.inf):
            raise self._later(f"this key may run {tenant.concurrency} chains at once.", "key_concurrency")
        ready = not self._line and self.running + chains <= self.limits.concurrency
        if not ready and self.waiting + chains > self.limits.queue:
            raise self._later("the server is busy and its queue is full.", "queue_full")
        ticket = Ticket(tenant, chains)
        self._by_tenant[tenant.name] += chains
        self._line.append(ticket)
        self._wake()
        return ticket

    def release(self, ticket: Ticket) -> None:
        """Free the place. Calling it twice is harmless."""
        if ticket.released:
            return
        ticket.released = True
        self._by_tenant[ticket.tenant.name] -= ticket.chains
        if ticket.begun is None:
            self._line.remove(ticket)
        else:
            self.running -= ticket.chains
            self._seconds += 0.1 * (time.monotonic() - ticket.begun - self._seconds)
        self._wake()

    def _wake(self) -> None:
        while self._line and self.running + self._line[0].chains <= self.limits.concurrency:
            ticket = self._line.popleft()
            ticket.begun = time.monotonic()
            self.running += ticket.chains
            if not ticket.turn.done():
                ticket.turn.set_result(None)

    def _later(self, message: str, code: str) -> Refusal:
        """A refusal that says when, at the present pace, the queue of now will have been admitted."""
        seconds = (self.waiting + 1) * self._seconds / self.limits.concurrency
        after = max(1, min(60, math.ceil(seconds)))
        return Refusal(429, f"{message} Try again in {after} s.", code=code, retry_after=after)
