"""Workers on a Ray cluster, and the calls in flight on them.

Ray starts the workers and starts them again, elsewhere if need be. A call that a worker took down with it is
made again on another one: whatever was not in flight is never repeated.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from stepwise.cluster.connect import join
from stepwise.cluster.settings import ClusterSettings
from stepwise.cluster.worker import Recipe
from stepwise.cluster.workers import check_code, line, machines, raised_there, start_workers
from stepwise.errors import BackendError, ConfigError

log = logging.getLogger(__name__)
PATIENCE_S = 60.0
"""Without a worker for so long, it is said that one is waited for."""
ATTEMPTS = 10
"""Workers that a call may take down with it before it is given up: it may be what kills them."""


@dataclass(eq=False)
class Place:
    """A worker as the driver sees it.

    Attributes:
        running: calls in flight.
        present: whether it answers, as far as is known.
        expected: whether somebody waits for it to.
        error: why it does not come back.
    """

    actor: Any
    running: int = 0
    present: bool = False
    expected: bool = False
    error: str = ""


class Pool:
    """As many workers as a cluster has room for, each with a service built by the recipe.

    Attributes:
        about: what the service says of itself.
        repeated: calls that were made again so far.

    Used from one event loop after it is built.

    Args:
        recipe: builds a worker's service.
        concurrency: calls in flight on each worker.

    Raises:
        ConfigError: if the cluster cannot be joined, has no room, runs other code, or a worker's service
            cannot be built.
    """

    def __init__(self, recipe: Recipe, settings: ClusterSettings, *, concurrency: int = 64) -> None:
        if concurrency < 1:
            raise ConfigError(f"concurrency must be at least 1, not {concurrency}.")
        self._ray, self._joined = join(settings.address)
        self._concurrency = concurrency
        self._changed = asyncio.Condition()
        self._returning: set[asyncio.Task[None]] = set()
        self._begun = False
        self.repeated = 0
        try:
            actors = start_workers(self._ray, recipe, settings, concurrency)
            self._places = [Place(actor) for actor in actors]
            self.about = self._first_about()
        except BaseException:
            self._leave()
            raise

    @property
    def capacity(self) -> int:
        """Calls in flight at most."""
        return len(self._places) * self._concurrency

    @property
    def machines(self) -> int:
        """How many the cluster has."""
        return machines(self._ray)

    def processes(self) -> list[int]:
        """Ids of the workers' processes."""
        ids: list[int] = self._ray.get([place.actor.process.remote() for place in self._places])
        return ids

    def share(self, value: Any) -> Any:
        """A stand-in for a large argument of many calls, which travels once to each machine."""
        return self._ray.put(value)

    async def __call__(self, *arguments: Any) -> Any:
        """Call the service of some worker, as soon as one has room.

        Raises:
            StepwiseError: what the service raised.
            BackendError: if no worker is left, or too many went down with this call.
        """
        from ray.exceptions import RayError, RayTaskError

        self._begin()
        last: Exception | None = None
        for _ in range(ATTEMPTS):
            place = await self._free()
            try:
                return await place.actor.call.remote(*arguments)
            except RayTaskError as error:
                raise raised_there(error) from error
            except RayError as error:
                self.repeated += 1
                self._expect(place)
                last = error
            finally:
                place.running -= 1
                async with self._changed:
                    self._changed.notify()
        raise BackendError(f"{ATTEMPTS} workers went down in a row with this call, the last: {line(last)}")

    def _begin(self) -> None:
        """With the first call, wait for the workers to come up."""
        if not self._begun:
            self._begun = True
            for place in self._places:
                self._expect(place)

    async def close(self) -> None:
        """Stop the workers. Calls in flight are lost."""
        for task in self._returning:
            task.cancel()
        await asyncio.gather(*self._returning, return_exceptions=True)
        self._leave()

    def _first_about(self) -> Any:
        """What the first worker says that has its service. The others join as they come up."""
        from ray.exceptions import RayError, RayTaskError

        opening = [place.actor.open.remote() for place in self._places]
        ready, _ = self._ray.wait(opening, timeout=PATIENCE_S)
        if not ready:
            log.warning("waiting for the first worker: the cluster is busy, or models load")
            ready, _ = self._ray.wait(opening)
        try:
            about, code = self._ray.get(ready[0])
        except RayTaskError as error:
            raise raised_there(error) from error
        except RayError as error:
            raise ConfigError(f"cluster: a worker cannot be started: {line(error)}") from error
        check_code(code)
        return about

    async def _free(self) -> Place:
        """The worker with the least to do, when it has room for one more call; the call is counted there."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._roomy() or all(p.error for p in self._places))
            if not self._roomy():
                raise BackendError(f"no worker is left on the cluster: {self._places[0].error}")
            place = min(self._roomy(), key=lambda place: place.running)
            place.running += 1
            return place

    def _roomy(self) -> list[Place]:
        return [place for place in self._places if place.present and place.running < self._concurrency]

    def _expect(self, place: Place) -> None:
        """Leave a worker alone until Ray has started it, for the first time or again."""
        if place.expected:
            return
        place.present, place.expected = False, True
        task = asyncio.create_task(self._await_worker(place))
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)

    async def _await_worker(self, place: Place) -> None:
        try:
            _, code = await place.actor.open.options(max_task_retries=-1).remote()
            check_code(code)
            place.present, place.expected = True, False
        except Exception as error:  # of Ray, or of the recipe on another machine
            place.error = line(error)
            log.warning("a worker is left out: %s", place.error)
        async with self._changed:
            self._changed.notify_all()

    def _leave(self) -> None:
        for place in getattr(self, "_places", ()):
            self._ray.kill(place.actor)
        if self._joined:
            self._ray.shutdown()
