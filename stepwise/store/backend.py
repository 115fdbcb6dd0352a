"""A backend with a memory: whatever is in the step store is not generated again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace

from stepwise.engine.backend import Backend, Completion, Sampling
from stepwise.errors import BackendError
from stepwise.store.sqlite import Store, key


@dataclass(eq=False)
class Pending:
    """A generation in flight and how many callers wait for it."""

    task: asyncio.Task[Completion]
    waiting: int = 0


class StoredBackend:
    """Looks a completion up before it asks the model, and shares generations in flight.

    A stored completion reports its whole prompt as cached: what the chain is then charged is the
    engine's rule, the tokens that the chain itself has not sent before.
    """

    def __init__(self, backend: Backend, store: Store) -> None:
        self.revision = backend.revision
        self.tokenizer = backend.tokenizer
        self.parameters = backend.parameters
        self.context = backend.context
        self.generated = 0
        self._backend = backend
        self._store = store
        self._pending: dict[bytes, Pending] = {}

    def encode(self, text: str, *, first: bool = True) -> tuple[int, ...]:
        return self._backend.encode(text, first=first)

    async def generate(self, prefix: Sequence[int], sampling: Sampling) -> Completion:
        address = key(self.revision, prefix, sampling)
        known = self._store.get(address)
        if known is not None:
            return known
        pending = self._pending.get(address)
        if pending is None:
            pending = Pending(asyncio.create_task(self._fresh(address, prefix, sampling)))
            self._pending[address] = pending
        pending.waiting += 1
        try:
            return await asyncio.shield(pending.task)
        except BackendError as error:
            raise copy(error) from error  # each waiter's chain writes into its own what it has taken
        finally:
            pending.waiting -= 1
            if not pending.waiting:
                self._pending.pop(address, None)
                pending.task.cancel()

    async def _fresh(self, address: bytes, prefix: Sequence[int], sampling: Sampling) -> Completion:
        completion = await self._backend.generate(prefix, sampling)
        self.generated += completion.usage.completion
        usage = replace(completion.usage, cached=completion.usage.prompt)
        completion = replace(completion, usage=usage)
        self._store.put(address, completion)
        return completion

    async def close(self) -> None:
        await self._backend.close()
