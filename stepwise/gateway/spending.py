"""What each key has spent today, and the threshold that keeps the default router's spend on target.

Both survive a restart in one small JSON file, written at most once a second and at the end.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

from stepwise.calibration import OnlineThreshold
from stepwise.errors import ConfigError
from stepwise.gateway.failures import Refusal
from stepwise.gateway.keys import Tenant

HORIZON = 200
"""Requests over which the mean cost of large-only is remembered, so that it follows the traffic."""


class Spending:
    """Keeps accounts.

    Args:
        online: the default router's moving threshold, if it moves.
        path: of the file that survives a restart; None to forget.

    Raises:
        ConfigError: if the file is there and cannot be read, or cannot be written.
    """

    def __init__(self, online: OnlineThreshold | None = None, path: Path | None = None) -> None:
        self.online = online
        self._path = path
        self._day = _today()
        self._spent: defaultdict[str, float] = defaultdict(float)
        self._alone, self._seen, self._written = 0.0, 0, 0.0
        if path is not None:
            self._restore(path)
            self.save()

    def check(self, tenant: Tenant) -> None:
        """Refuse a tenant who has spent the day's limit.

        A chain's cost is known when it ends, so chains that run side by side may overshoot.

        Raises:
            Refusal: 429, to be retried when the next UTC day begins.
        """
        self._turn_day()
        if tenant.spend is not None and self._spent[tenant.name] >= tenant.spend:
            now = datetime.now(UTC)
            midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
            raise Refusal(
                429,
                f"this key has spent its limit of {tenant.spend:g} for today (UTC).",
                code="spend_limit",
                retry_after=int((midnight - now).total_seconds()) + 1,
            )

    def charge(self, tenant: Tenant, cost: float) -> None:
        """Put the cost of a chain, finished or not, on the tenant's account."""
        self._turn_day()
        self._spent[tenant.name] += cost
        self._save_sometimes()

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
        self._save_sometimes()

    def save(self) -> None:
        """Write the file, whole or not at all."""
        if self._path is None:
            return
        online = None if self.online is None else self.online.state()
        known = {"alone": self._alone, "seen": self._seen}
        state = {"day": self._day, "spent": self._spent, "online": online, **known}
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_text(json.dumps(state), encoding="utf-8")
            draft.replace(self._path)
        except OSError as error:
            raise ConfigError(f"state: {self._path} cannot be written: {error.strerror}.") from error
        self._written = time.monotonic()

    def _save_sometimes(self) -> None:
        if time.monotonic() - self._written >= 1.0:
            self.save()

    def _restore(self, path: Path) -> None:
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            self._day, self._spent = str(state["day"]), defaultdict(float, state["spent"])
            online = state["online"]
            # A new target starts over: the old position was for another.
            if self.online is not None and online is not None and online["target"] == self.online.target:
                self.online.restore(online)
                self._alone, self._seen = float(state["alone"]), int(state["seen"])
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"state: {path} cannot be read ({error!r}); delete it to start over."
            ) from error

    def _turn_day(self) -> None:
        if self._day != _today():
            self._day = _today()
            self._spent.clear()


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
