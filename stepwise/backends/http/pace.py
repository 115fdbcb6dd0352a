"""How fast a server writes, to estimate what a call took whose answer never came."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from stepwise.backends.http.failures import Unanswered
from stepwise.engine.backend import Lost
from stepwise.types import Usage

RECENT = 0.1
"""Weight of the latest call in the moving average."""


class Call:
    """A call under way. `finished` says what it took; without it, it was cut off."""

    def __init__(self) -> None:
        self.usage: Usage | None = None

    def finished(self, usage: Usage) -> None:
        self.usage = usage


class Pace:
    """Tokens per second of one model on one server, learned from the calls that ended.

    Before any has ended, a call that was cut off counts as if the model had written all that it might.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._rate: float | None = None

    @contextmanager
    def watch(self, prompt: int, limit: int, lost: Lost) -> Iterator[Call]:
        """Watch a call with this many tokens of prompt that may write up to ``limit``. Where it is cancelled
        or its answer does not come whole, ``lost`` is told an estimate."""
        call, began = Call(), self._clock()
        try:
            yield call
        except (asyncio.CancelledError, Unanswered):
            if call.usage is not None:  # cancelled after its answer had come
                lost(call.usage)
            else:
                written = self._written(self._clock() - began, limit)
                lost(Usage(prompt=prompt, completion=written, estimated=prompt + written))
            raise
        if call.usage is not None:
            self._learn(call.usage.completion, self._clock() - began)

    def _written(self, seconds: float, limit: int) -> int:
        return limit if self._rate is None else min(limit, round(self._rate * seconds))

    def _learn(self, tokens: int, seconds: float) -> None:
        rate = tokens / max(seconds, 1e-3)
        self._rate = rate if self._rate is None else self._rate + RECENT * (rate - self._rate)
