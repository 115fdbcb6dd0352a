"""Several servers of the same model: a chain stays with one of them, and goes to the next when that fails.

Rendezvous hashing (Thaler and Ravishankar 1998): every server gets a weight from its URL and what the chain
began with, and the chain prefers servers by falling weight. So all steps of a chain find the prefix cache of
one server, chains spread evenly, and a server that is lost or added moves only the chains that were its own.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence

from stepwise.backends.http.breaker import Breaker
from stepwise.engine.backend import (
    Around,
    Backend,
    Completion,
    Lost,
    Sampling,
    unaccounted,
)
from stepwise.engine.prefix import Prefix
from stepwise.errors import BackendError, RequestRefused

FAILURES = 2
"""Failures in a row after which a server is left alone for a while."""


class ReplicatedBackend(Around):
    """One model on several servers; whoever calls it retries what all of them refuse.

    Args:
        backends: by the server's URL; alike but for it.
        rest_s: seconds that a failing server is left alone.
    """

    def __init__(self, backends: Mapping[str, Backend], *, rest_s: float) -> None:
        super().__init__(next(iter(backends.values())))
        self.context = min(backend.context for backend in backends.values())
        self._backends = dict(backends)
        self._breakers = {url: Breaker(FAILURES, rest_s) for url in backends}

    async def generate(
        self, prefix: Sequence[int], sampling: Sampling, lost: Lost = unaccounted
    ) -> Completion:
        chain = prefix if isinstance(prefix, Prefix) else Prefix(prefix)
        failures: list[BackendError] = []
        urls = preferred(self._backends, chain.root())
        resting = all(self._breakers[url].state == "open" for url in urls)  # then that helps nobody
        for url in urls:
            try:
                if not resting:
                    self._breakers[url].admit(url)
                return await self._ask(url, chain, sampling, lost)
            except RequestRefused:
                raise
            except BackendError as error:
                failures.append(error)
        last = failures[-1]
        waits = [error.wait_s for error in failures]
        raise BackendError(str(last), retryable=any(e.retryable for e in failures), wait_s=min(waits))

    async def _ask(self, url: str, chain: Prefix, sampling: Sampling, lost: Lost) -> Completion:
        """Ask one server, and remember how it went."""
        breaker = self._breakers[url]
        try:
            completion = await self._backends[url].generate(chain, sampling, lost)
        except RequestRefused:
            breaker.succeeded()  # the server is well, and the others would refuse it too
            raise
        except BackendError as error:
            breaker.failed(str(error))
            raise
        except BaseException:
            breaker.gave_up()
            raise
        breaker.succeeded()
        return completion

    async def close(self) -> None:
        await asyncio.gather(*(backend.close() for backend in self._backends.values()))


def preferred(urls: Mapping[str, object], root: bytes) -> list[str]:
    """Servers in the order in which a chain prefers them.

    Args:
        root: address of what the chain began with.
    """
    return sorted(urls, key=lambda url: hashlib.blake2b(url.encode() + root, digest_size=8).digest())
