"""A backend with a memory: whatever is in the step store is not generated again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from stepwise.engine.backend import (
    Around,
    Backend,
    Completion,
    Lost,
    Sampling,
    unaccounted,
)
from stepwise.errors import BackendError
from stepwise.store.batches import Batches
from stepwise.store.steps import Entry, Store, key
from stepwise.types import Usage


@dataclass(eq=False)
class Pending:
    """A generation in flight, and the accounts of those who wait for it: each is told what it loses."""

    task: asyncio.Task[Completion]
    waiting: list[Lost]


class StoredBackend(Around):
    """Looks a completion up before it asks the model, and shares generations in flight.

    A stored completion reports its whole prompt as cached: what the chain is then charged is the
    engine's rule, the tokens that the chain itself has not sent before.

    A store on this machine is asked at once; calls to one on a server are gathered, and the loop goes on.
    """

    def __init__(self, backend: Backend, store: Store) -> None:
        super().__init__(backend)
        self.generated = 0
        self._store = store
        self._look_up = Batches(store.get_many)
        self._keep = Batches(partial(_put_all, store))
        self._pending: dict[bytes, Pending] = {}

    async def generate(
        self, prefix: Sequence[int], sampling: Sampling, lost: Lost = unaccounted
    ) -> Completion:
        address = key(self.revision, prefix, sampling)
        if not self._store.remote and (known := self._store.get(address)) is not None:
            return known
        pending = self._pending.get(address)
        if pending is None:
            pending = self._pending[address] = self._begin(address, prefix, sampling)
        pending.waiting.append(lost)
        try:
            return await asyncio.shield(pending.task)
        except asyncio.CancelledError:
            await self._leave(address, pending, lost)
            raise
        finally:
            pending.waiting.remove(lost)
            if not pending.waiting:
                self._pending.pop(address, None)

    def _begin(self, address: bytes, prefix: Sequence[int], sampling: Sampling) -> Pending:
        waiting: list[Lost] = []

        def lost(usage: Usage) -> None:
            for account in waiting:
                account(usage)

        return Pending(asyncio.create_task(self._fresh(address, prefix, sampling, lost)), waiting)

    async def _leave(self, address: bytes, pending: Pending, lost: Lost) -> None:
        """Whoever is the last to leave ends the generation, and waits to hear what it took."""
        task = pending.task
        if len(pending.waiting) == 1:
            self._pending.pop(address, None)
            task.cancel()
            await asyncio.wait({task})
        if task.done() and not task.cancelled() and task.exception() is None:  # it had just ended
            lost(task.result().usage)

    async def _fresh(
        self, address: bytes, prefix: Sequence[int], sampling: Sampling, lost: Lost
    ) -> Completion:
        if self._store.remote and (known := await self._look_up(address)) is not None:
            return known
        completion = await self.backend.generate(prefix, sampling, lost)
        self.generated += completion.usage.completion
        usage = replace(completion.usage, cached=completion.usage.prompt)
        stored = replace(completion, usage=usage)
        if not self._store.remote:
            self._store.put(address, stored)
            return stored
        try:
            await self._keep((address, stored))
        except (BackendError, asyncio.CancelledError):
            lost(completion.usage)
            raise
        return stored

    async def close(self) -> None:
        await self.backend.close()


def _put_all(store: Store, entries: Sequence[Entry]) -> list[None]:
    store.put_many(entries)
    return [None] * len(entries)
