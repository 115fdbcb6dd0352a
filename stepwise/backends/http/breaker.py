"""A circuit breaker: a server that keeps failing is left alone for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from stepwise.errors import BackendError

Clock = Callable[[], float]


class Breaker:
    """Counts failures in a row, and says whether a call may be made.

    Closed: all may. Open: none. Half open, after a rest: one may, and its outcome decides.
    """

    def __init__(self, failures: int, rest_s: float, clock: Clock = time.monotonic) -> None:
        self._limit, self._rest, self._clock = failures, rest_s, clock
        self._failed = 0
        self._cause = ""
        self._opened: float | None = None
        self._trying = False

    @property
    def state(self) -> Literal["closed", "open", "half-open"]:
        if self._opened is None:
            return "closed"
        return "half-open" if self._trying or self._clock() - self._opened >= self._rest else "open"

    def admit(self, name: str) -> None:
        """Raises:
        BackendError: if the call must not be made.
        """
        if self._opened is None:
            return
        if self._trying or self._clock() - self._opened < self._rest:
            raise BackendError(
                f"{name} has failed {self._failed} times in a row and is left alone for now; the last time: "
                f"{self._cause}"
            )
        self._trying = True

    def succeeded(self) -> None:
        self._failed, self._opened, self._trying = 0, None, False

    def failed(self, cause: str = "") -> None:
        self._failed += 1
        self._cause = cause
        if self._failed >= self._limit:
            self._opened = self._clock()
        self._trying = False

    def gave_up(self) -> None:
        """A call ended without telling anything: it was cancelled, or refused for its own sake."""
        self._trying = False
