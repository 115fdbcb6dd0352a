"""Whether a model's servers can be reached at all, whatever they would answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from stepwise.errors import BackendError

Ask = Callable[[], Awaitable[BackendError | None]]
"""Why nobody can be reached, None where somebody can."""


async def unasked() -> None:
    """An `Ask` where nobody can be asked: then it is not known that anybody is gone."""
    return


class Presence:
    """Asked when somebody wants to know, and once for all who do; nothing runs meanwhile.

    Args:
        ask: asks the servers.
        returned: called when somebody can be reached again.
        every_s: seconds for which an answer holds.
        clock: seconds.

    Attributes:
        reason: why nobody could be reached when last asked; None where somebody could.
        returns: how often somebody was back.
    """

    def __init__(
        self,
        ask: Ask,
        returned: Callable[[], None],
        every_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.reason: BackendError | None = None
        self.returns = 0
        self._ask, self._returned, self._every, self._clock = ask, returned, every_s, clock
        self._since = 0.0
        self._asked = 0.0
        self._asking: asyncio.Task[None] | None = None

    @property
    def gone(self) -> bool:
        """Whether nobody could be reached when last asked."""
        return self.reason is not None

    @property
    def gone_s(self) -> float:
        """Seconds since they were found gone; 0 while they are not."""
        return self._clock() - self._since if self.gone else 0.0

    async def there(self) -> bool:
        """Whether somebody can be reached now."""
        if self._asking is None or (self._asking.done() and self._clock() - self._asked >= self._every):
            self._asking = asyncio.create_task(self._find_out())
        await asyncio.shield(self._asking)  # others may wait for it, too
        return not self.gone

    async def back(self, within_s: float) -> bool:
        """Wait until somebody can be reached; False when nobody could for so many seconds."""
        while not await self.there():
            if self.gone_s >= within_s:
                return False
            await asyncio.sleep(self._every)
        return True

    def found(self) -> None:
        """Somebody has answered."""
        if self.gone:
            self.reason = None
            self.returns += 1
            self._returned()

    async def _find_out(self) -> None:
        reason = await self._ask()
        self._asked = self._clock()
        if reason is None:
            self.found()
            return
        if not self.gone:
            self._since = self._asked
        self.reason = reason
