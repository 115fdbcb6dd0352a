"""A backend that outlives trouble: a limit on what is in flight, retries, and a circuit breaker.

Failures that pass are tried again after a random exponential backoff, or as long as the server asked for,
until a deadline; within seconds where another model would take over. A model that failed for good several
times in a row is then left alone for a while: calls fail at once, so that the engine's other models can go
on, until one call is let through to see. What a server refuses for the request's own sake says nothing about
the server.

Where somebody waits for the answer (`stepwise.engine.backend.WAIT`), a server that cannot even be reached is
no matter of the breaker: it is given the time of a restart, once for all who wait. After that calls fail at
once, and the first one after it is back finds it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

import msgspec
import tenacity

from stepwise.backends.http.breaker import Breaker
from stepwise.backends.http.presence import Ask, Presence, unasked
from stepwise.engine.backend import (
    WAIT,
    Around,
    Backend,
    Chunk,
    Completion,
    Generation,
    Lost,
    Sampling,
    StreamingBackend,
    unaccounted,
)
from stepwise.engine.prefix import Prefix
from stepwise.errors import BackendError, ConfigError, RequestRefused
from stepwise.types import Usage

T = TypeVar("T")


class Patience(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long to go on trying.

    Attributes:
        deadline_s: seconds after which a call that keeps failing has failed.
        handover_s: the same where another model would take over.
        restart_s: seconds in which a server that cannot be reached has to come back, where somebody waits for
            the answer and no other model can write it.
        call_s: seconds that one attempt may take.
        first_wait_s: mean of the first pause; each further one is twice as long.
        max_wait_s: the longest pause.
        failures: calls in a row that fail for good before the breaker opens.
        rest_s: seconds until the breaker lets a call through again.
    """

    deadline_s: float = 120.0
    handover_s: float = 3.0
    restart_s: float = 15.0
    call_s: float = 600.0
    first_wait_s: float = 0.25
    max_wait_s: float = 15.0
    failures: int = 5
    rest_s: float = 30.0

    def __post_init__(self) -> None:
        for name in (
            "deadline_s",
            "handover_s",
            "restart_s",
            "call_s",
            "first_wait_s",
            "max_wait_s",
            "failures",
            "rest_s",
        ):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be more than 0, not {getattr(self, name)}.")


class ResilientBackend(Around):
    """Wraps a backend that can fail.

    Args:
        backend: what to run.
        name: how it is called in errors.
        patience: how long to go on trying.
        concurrency: calls in flight at most; more wait their turn.
        ask: asks whether its servers can be reached.
    """

    def __init__(
        self,
        backend: Backend,
        name: str,
        *,
        patience: Patience | None = None,
        concurrency: int = 256,
        ask: Ask = unasked,
    ) -> None:
        if concurrency < 1:
            raise ConfigError(f"concurrency must be at least 1, not {concurrency}.")
        super().__init__(backend)
        self.name = name
        self.patience = patience or Patience()
        self.breaker = Breaker(self.patience.failures, self.patience.rest_s)
        self.presence = Presence(ask, self.breaker.succeeded, self.patience.first_wait_s)
        self.slots = asyncio.Semaphore(concurrency)
        self.retries = 0

    async def generate(
        self, prefix: Sequence[int], sampling: Sampling, lost: Lost = unaccounted
    ) -> Completion:
        async with self.slots:
            return await self.attempt(lambda: self.backend.generate(prefix, sampling, lost))

    async def close(self) -> None:
        await self.backend.close()

    async def reachable(self) -> bool:
        return await self.presence.there()

    @property
    def restarting(self) -> bool:
        return self.presence.gone and self.presence.gone_s < self.patience.restart_s

    async def attempt(self, call: Callable[[], Awaitable[T]]) -> T:
        """Make a call until it succeeds, fails for good, or the deadline has passed.

        Raises:
            BackendError: the last failure.
        """
        await self._expect_somebody()
        returns = self.presence.returns
        if not self.presence.gone:
            self.breaker.admit(self.name)
        try:
            result: T = await self._through_restarts(call)
        except RequestRefused:
            self.breaker.succeeded()  # the server is well
            raise
        except BackendError as error:
            if not self.presence.gone and self.presence.returns == returns:
                self.breaker.failed(str(error))  # of a server that was there all the time
            raise
        except BaseException:
            self.breaker.gave_up()
            raise
        self.breaker.succeeded()
        self.presence.found()
        return result

    async def _expect_somebody(self) -> None:
        """Fail at once where nobody has been there for longer than the caller waits for."""
        patience, wait = self.patience, WAIT.get()
        long = wait != "deadline" and self.presence.gone_s >= (
            patience.handover_s if wait == "handover" else patience.restart_s
        )
        if long and not await self.presence.there():
            raise BackendError(str(self.presence.reason), retryable=True)

    async def _through_restarts(self, call: Callable[[], Awaitable[T]]) -> T:
        """Retry, and again when a server is back that could not be reached."""
        while True:
            try:
                result: T = await self._retrying()(self._once, call)
                return result
            except BackendError:
                gone = WAIT.get() == "restart" and self.presence.gone
                if not gone or not await self.presence.back(self.patience.restart_s):
                    raise

    async def _once(self, call: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self.patience.call_s):
                return await call()
        except TimeoutError as error:
            what = f"{self.name} did not answer within {self.patience.call_s:g} seconds."
            raise BackendError(what, retryable=True) from error
        except BackendError as error:
            if error.retryable and WAIT.get() != "deadline":
                await self.presence.there()
            raise

    def _retrying(self) -> tenacity.AsyncRetrying:
        patience = self.patience
        backoff = tenacity.wait_random_exponential(patience.first_wait_s, patience.max_wait_s)

        def pause(state: tenacity.RetryCallState) -> float:
            self.retries += 1
            asked = getattr(state.outcome.exception(), "wait_s", 0.0) if state.outcome else 0.0
            return max(backoff(state), asked)

        def stop(state: tenacity.RetryCallState) -> bool:
            wait = WAIT.get()
            brief = wait == "handover" or (wait == "restart" and self.presence.gone)
            longest = min(patience.handover_s, patience.deadline_s) if brief else patience.deadline_s
            return tenacity.stop_before_delay(longest)(state)

        return tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(lambda e: isinstance(e, BackendError) and e.retryable),
            stop=stop,
            wait=pause,
            reraise=True,
        )


class ResilientStreamingBackend(ResilientBackend):
    """The same for a backend whose generations can be read while they go on."""

    backend: StreamingBackend

    def begin(self, prefix: Sequence[int], sampling: Sampling) -> ResilientGeneration:
        return ResilientGeneration(self, prefix, sampling)

    def text(self, before: Sequence[int], token_ids: Sequence[int]) -> str:
        return self.backend.text(before, token_ids)

    def piece(self, token: int) -> str:
        return self.backend.piece(token)


class ResilientGeneration:
    """A generation that goes on where it broke off, with what had arrived as a part of the prefix."""

    def __init__(self, owner: ResilientStreamingBackend, prefix: Sequence[int], sampling: Sampling) -> None:
        self._owner = owner
        self._prefix = prefix if isinstance(prefix, Prefix) else Prefix(prefix)
        self._sampling = sampling
        self._broken = Usage()  # prompts of attempts that broke, and tokens of theirs that nobody read
        self._read = 0
        self._current: Generation | None = None
        self._slot = False

    @property
    def prompt(self) -> Usage:
        broken = replace(self._broken, discarded=0)
        return broken + (self._current.prompt if self._current else Usage())

    @property
    def unread(self) -> int:
        return self._broken.discarded + (self._current.unread if self._current else 0)

    async def read(self, mark: str = "", limit: int = 1) -> Chunk:
        if not self._slot:
            await self._owner.slots.acquire()
            self._slot = True
        try:
            chunk = await self._owner.attempt(partial(self._once, mark, limit))
        except BaseException:
            self._release()
            raise
        self._prefix = self._prefix.extend(chunk.token_ids)
        self._read += len(chunk.token_ids)
        if chunk.finish is not None:
            self._release()
        return chunk

    async def stop(self) -> None:
        try:
            if self._current is not None:
                await self._current.stop()
        finally:
            self._release()

    async def _once(self, mark: str, limit: int) -> Chunk:
        if self._current is None:
            self._current = self._owner.backend.begin(self._prefix, self._rest())
        try:
            return await self._current.read(mark, limit)
        except BackendError:
            broken = self._current
            await broken.stop()
            self._current = None
            self._broken += replace(broken.prompt, discarded=broken.unread)
            raise

    def _rest(self) -> Sampling:
        """What is left to write; what has been read belongs to the step."""
        ends, left = self._sampling.boundaries, self._sampling.max_tokens - self._read
        if ends is not None and self._read:
            read = "".join(map(self._owner.piece, self._prefix.tail(self._read)))
            ends = replace(ends, begun=ends.begun + read)
        return replace(self._sampling, max_tokens=left, boundaries=ends)

    def _release(self) -> None:
        if self._slot:
            self._slot = False
            self._owner.slots.release()


def resilient(
    backend: Backend,
    name: str,
    *,
    patience: Patience | None = None,
    concurrency: int = 256,
    ask: Ask = unasked,
) -> ResilientBackend:
    """The backend with a limit, retries and a breaker, and still readable if it was."""
    kind = ResilientStreamingBackend if isinstance(backend, StreamingBackend) else ResilientBackend
    return kind(backend, name, patience=patience, concurrency=concurrency, ask=ask)
