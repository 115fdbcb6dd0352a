"""Parts of a vector environment on the workers of a Ray cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from envs.remote import CostWeight, Lost, Slots
from envs.vector import RoutingVectorEnv, Slot
from stepwise.cluster.connect import join
from stepwise.cluster.settings import ClusterSettings
from stepwise.cluster.workers import check_code, line, machines, raised_there, start_workers
from stepwise.errors import ConfigError

Make = Callable[[], Callable[[int], RoutingVectorEnv]]
"""Loads what is needed, and gives a function that makes a vector environment of so many slots."""


@dataclass(frozen=True)
class SlotsRecipe:
    """Builds the service of a worker that holds slots.

    Attributes:
        make: pickled.
    """

    make: Make

    def __call__(self) -> SlotsService:
        return SlotsService(self.make())


class SlotsService(Slots):
    """`Slots` as calls by name, off the worker's event loop: environments block."""

    async def __call__(self, name: str, *arguments: Any) -> Any:
        return await asyncio.to_thread(getattr(self, name), *arguments)

    async def close(self) -> None: ...


class RayPart:
    """Slots in an actor. Ray starts it again when it is lost.

    Attributes:
        machines: of its cluster.
    """

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self.actor = ray, actor
        self.machines = machines(ray)

    def restore(self, slots: Sequence[Slot], cost_weight: CostWeight) -> Future[Any]:
        call = self.actor.call.options(max_task_retries=-1)
        future: Future[Any] = call.remote("restore", list(slots), cost_weight).future()
        return future

    def exchange(self, actions: Mapping[int, int], cost_weight: CostWeight) -> Future[Any]:
        future: Future[Any] = self.actor.call.remote("exchange", dict(actions), cost_weight).future()
        return future

    def result(self, future: Future[Any]) -> Any:
        from ray.exceptions import RayError, RayTaskError

        try:
            return future.result()
        except RayTaskError as error:
            raise raised_there(error) from error
        except RayError as error:
            raise Lost(line(error)) from error

    def close(self) -> None:
        self._ray.kill(self.actor)


def parts_on(
    settings: ClusterSettings, make: Callable[[], Callable[[int], RoutingVectorEnv]]
) -> list[RayPart]:
    """Workers for slots, each with the code of this process.

    Raises:
        ConfigError: if the cluster cannot be joined, has no room, runs other code, or an engine cannot be
            built there.
    """
    from ray.exceptions import RayError, RayTaskError

    ray, _ = join(settings.address)
    actors = start_workers(ray, SlotsRecipe(make), settings, calls=1)
    try:
        for _, code in ray.get([actor.open.remote() for actor in actors]):
            check_code(code)
    except RayTaskError as error:
        raise raised_there(error) from error
    except RayError as error:
        raise ConfigError(f"cluster: a worker cannot be started: {line(error)}") from error
    return [RayPart(ray, actor) for actor in actors]
