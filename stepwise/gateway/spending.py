"""What each key has spent today, and the threshold that keeps the default router's spend on target.

Both survive a restart in one small JSON file (`stepwise.gateway.state`).
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from msgspec.structs import asdict

from stepwise.calibration import OnlineThreshold
from stepwise.errors import ConfigError
from stepwise.gateway import state
from stepwise.gateway.failures import Refusal
from stepwise.gateway.keys import Tenant
from stepwise.gateway.log import log
from stepwise.gateway.recent import Recent

HORIZON = 200
"""Requests over which the mean cost of large-only is remembered, so that it follows the traffic."""
RECENT = 0.1
"""Weight of the latest chain in what a tenant's chains usually cost."""
SAVE_EVERY = 0.5
"""Seconds between looks whether there is something to write."""


class Spending:
    """Keeps accounts; of one server by itself, or as one of several (`stepwise.gateway.shared`).

    Attributes:
        recent: the latest chains.

    Args:
        online: the default router's moving threshold, if it moves.
        path: of the file that survives a restart; None to forget.
        unit: of costs.

    Raises:
        ConfigError: if the file is there and cannot be read, or cannot be written.
    """

    def __init__(
        self, online: OnlineThreshold | None = None, path: Path | None = None, unit: str = ""
    ) -> None:
        self.online, self.recent = online, Recent()
        self._path, self._unit = path, unit
        self._day = _today()
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._reserved: defaultdict[str, float] = defaultdict(float)
        self._usual: dict[str, float] = {}
        self._alone, self._seen = 0.0, 0
        self._changed, self._written = False, 0.0
        if path is not None:
            self._restore(state.read(path, unit))
            self.save()

    def check(self, tenant: Tenant) -> None:
        """Refuse a tenant who has spent the day's limit.

        Raises:
            Refusal: 429, to be retried when the next UTC day begins.
        """
        self._turn_day()
        self._refuse_above_limit(tenant, self._spent[tenant.name] + self._elsewhere(tenant))

    def reserve(self, tenant: Tenant, least: Sequence[float]) -> Reservation:
        """Put aside what a request's chains will probably cost: what the tenant's chains cost of late, and at
        the ``least`` so much, a number a chain.

        Raises:
            Refusal: 429, if what is spent and put aside reaches the day's limit before the last of them.
        """
        self._turn_day()
        reservation = Reservation(self, tenant)
        try:
            for amount in least:
                taken = self._spent[tenant.name] + self._reserved[tenant.name] + self._elsewhere(tenant)
                self._refuse_above_limit(tenant, taken)
                reservation.add(max(amount, self._usual.get(tenant.name, 0.0)))
        except Refusal:
            reservation.release()
            raise
        return reservation

    async def admit(self, reservation: Reservation) -> None:
        """Let a request's chains run, now that their turn has come: what others have spent meanwhile counts.

        Raises:
            Refusal: 429, if the limit is spent.
        """
        self.check(reservation.tenant)

    def leave(self, reservation: Reservation) -> None:
        """A request's chains are over; of interest where others count them too."""

    def put_aside(self, tenant: Tenant, amount: float) -> None:
        """Change what is reserved."""
        self._reserved[tenant.name] = max(self._reserved[tenant.name] + amount, 0.0)

    def charge(self, tenant: Tenant, cost: float) -> None:
        """Put the cost of a chain, finished or not, on the tenant's account."""
        self._turn_day()
        self._spent[tenant.name] += cost
        usual = self._usual.get(tenant.name, cost)
        self._usual[tenant.name] = usual + RECENT * (cost - usual)
        self._note_change()

    def learn(self, cost: float, alone: float) -> None:
        """Let the threshold learn from a chain that the default router routed to its end.

        The budget is a ratio of means, E[cost] <= budget * E[large-only cost], so the chain's cost
        is measured against the recent *mean* of what large-only would have cost.

        Args:
            cost: of the chain.
            alone: what the large model alone would have cost for it.
        """
        if self.online is None or alone <= 0.0:
            return
        self._seen += 1
        self._alone += max(1 / self._seen, 1 / HORIZON) * (alone - self._alone)
        self.online.update(cost / self._alone)
        self._note_change()

    def save(self) -> None:
        """Write the file, whole or not at all.

        Raises:
            ConfigError: if it cannot be written.
        """
        self._changed, self._written = False, time.monotonic()
        if self._path is None:
            return
        online = None if self.online is None else state.Position(**self.online.state())
        now = state.State(self._unit, self._day, self._spent, online, self._alone, self._seen)
        state.write(self._path, now)

    async def keep_saved(self) -> None:
        """Write what changes, within a second, until cancelled."""
        while True:
            await asyncio.sleep(SAVE_EVERY)
            if self._changed:
                self._save_or_say()

    async def close(self) -> None:
        """Write what is not written yet.

        Raises:
            ConfigError: if it cannot be written.
        """
        self.save()

    def _elsewhere(self, tenant: Tenant) -> float:
        """What other servers have spent today, as far as is known."""
        return 0.0

    def _note_change(self) -> None:
        """Where nobody runs `keep_saved`, changes are written with those that follow."""
        self._changed = True
        if time.monotonic() - self._written >= 2 * SAVE_EVERY:
            self._save_or_say()

    def _save_or_say(self) -> None:
        """A full disk must not take an answer away."""
        try:
            self.save()
        except ConfigError as error:
            self._changed = True
            log("state", error=str(error))

    def _restore(self, kept: state.State | None) -> None:
        if kept is None:
            return
        self._day, self._spent = kept.day, defaultdict(float, kept.spent)
        if self.online is None or kept.online is None:
            return
        # A new target or a policy that was calibrated anew starts over: the old position was for another.
        if (kept.online.target, kept.online.grid) == (self.online.target, self.online.grid):
            self.online.restore(asdict(kept.online))
            self._alone, self._seen = kept.alone, kept.seen

    def _refuse_above_limit(self, tenant: Tenant, taken: float) -> None:
        if tenant.spend is not None and taken >= tenant.spend:
            now = datetime.now(UTC)
            midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
            raise Refusal(
                429,
                f"this key has spent its limit of {tenant.spend:g} for today (UTC), or chains that run will.",
                code="spend_limit",
                retry_after=int((midnight - now).total_seconds()) + 1,
            )

    def _turn_day(self) -> None:
        """A new day is a new account. A clock that is set back gives nobody a second one: what is spent stays
        on the day that was later, unless that lies in the future as no correction would put it."""
        today = _today()
        if today > self._day:
            self._spent.clear()
            self._day = today
        elif date.fromisoformat(self._day) - date.fromisoformat(today) > timedelta(days=1):
            self._day = today


class Reservation:
    """What the chains of one request will probably cost, kept apart until each one's cost is known."""

    def __init__(self, spending: Spending, tenant: Tenant) -> None:
        self._spending, self.tenant = spending, tenant
        self._amounts: dict[int, float] = {}
        self.chains = 0

    @property
    def amounts(self) -> list[float]:
        """Of the chains whose cost is not known yet."""
        return list(self._amounts.values())

    def add(self, amount: float) -> None:
        """Of the next chain."""
        self._amounts[self.chains] = amount
        self.chains += 1
        self._spending.put_aside(self.tenant, amount)

    async def admit(self) -> None:
        """Let the chains run; see `Spending.admit`."""
        await self._spending.admit(self)

    def settle(self, chain: int, cost: float) -> None:
        """Charge what a chain cost, however it ended."""
        self._spending.put_aside(self.tenant, -self._amounts.pop(chain, 0.0))
        self._spending.charge(self.tenant, cost)

    def release(self) -> None:
        """Give back what chains that never ran had reserved. Calling it twice is harmless."""
        for amount in self._amounts.values():
            self._spending.put_aside(self.tenant, -amount)
        self._amounts.clear()
        self._spending.leave(self)


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
