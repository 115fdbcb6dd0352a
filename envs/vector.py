"""The batched form: many episodes whose generations are all in flight at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from envs.episode import Episode, Observation, Transition
from envs.routing import Task
from envs.tree import EVERYTHING, View
from stepwise.engine import Engine
from stepwise.types import Look, Problem

Arrival = tuple[Transition, Observation]
"""A transition of a slot, and the observation that the agent acts on next: the same one, or the first of
the next episode."""
Batch = tuple[Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]


class RoutingVectorEnv(VectorEnv[Observation, Any, Any]):
    """``num_envs`` episodes of `RoutingEnv`, stepped together.

    ``step`` issues every episode's generation before it waits for any, so that the backend batches
    them. An episode that ends is followed by the next one within the same step (Gymnasium's
    ``SAME_STEP``): its last observation and info are in ``infos["final_obs"]`` and
    ``infos["final_info"]``, lists with None for the episodes that go on.

    With ``patience`` (seconds), a step waits for a straggler only that much longer than for the
    rest: its slot repeats its observation with reward 0 and ``infos["pending"]`` is true there;
    the action sent to a pending slot is ignored. Without it every step waits for all, and a seeded
    run is reproducible.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012 (Gymnasium's own)

    def __init__(
        self,
        engine: Engine,
        problems: Sequence[Problem],
        num_envs: int = 64,
        look: Look = "after_draft",
        price: float | tuple[float, float] = 0.3,
        cost_scale: float = 1.0,
        patience: float | None = None,
        view: View = EVERYTHING,
    ) -> None:
        self.task = Task(engine, problems, look, price, cost_scale, view)
        self.num_envs = num_envs
        self.patience = patience
        self.single_observation_space = self.task.observation_space
        self.single_action_space = self.task.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.episodes: list[Episode] = []
        self._randoms: list[np.random.Generator] = []
        self._observations = np.zeros((num_envs, *self.task.observation_space.shape), np.float32)
        self._done: dict[int, Arrival] = {}
        self._running: dict[int, asyncio.Task[Arrival]] = {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        return self.task.engine.run(self._reset(options)), {}

    def step(self, actions: Any) -> Batch:
        return self.task.engine.run(self._step(np.asarray(actions)))

    def close(self, **kwargs: Any) -> None:
        self.task.engine.run(self._cancel())
        super().close(**kwargs)

    # On the engine's event loop

    async def _reset(self, options: dict[str, Any] | None) -> Observation:
        await self._cancel()
        self._randoms = self.np_random.spawn(self.num_envs)
        self.episodes = [self.task.episode(random, options) for random in self._randoms]
        first = await asyncio.gather(*(episode.begin() for episode in self.episodes))
        self._observations[:] = first
        return self._observations.copy()

    async def _step(self, actions: NDArray[np.int64]) -> Batch:
        for slot in range(self.num_envs):
            if slot not in self._running:
                self._start(slot, int(actions[slot]))
        await self._wait()
        rewards = np.zeros(self.num_envs)
        terminated, truncated = np.zeros(self.num_envs, bool), np.zeros(self.num_envs, bool)
        pending = np.ones(self.num_envs, bool)
        info: dict[str, Any] = {"final_obs": [None] * self.num_envs, "final_info": [None] * self.num_envs}
        for slot, (result, observation) in self._done.items():
            self._observations[slot] = observation
            pending[slot] = False
            rewards[slot] = result.reward
            terminated[slot], truncated[slot] = result.terminated, result.truncated
            if result.terminated or result.truncated:
                info["final_obs"][slot], info["final_info"][slot] = result.observation, result.info
        self._done.clear()
        return self._observations.copy(), rewards, terminated, truncated, info | {"pending": pending}

    def _start(self, slot: int, action: int) -> None:
        """Take a slot's transition at once if the tree has it; else as a task."""
        result = self.episodes[slot].recall_act(action)
        if result is None:
            self._running[slot] = asyncio.create_task(self._act(slot, action))
        elif not (result.terminated or result.truncated):
            self._done[slot] = result, result.observation
        else:
            self.episodes[slot] = self.task.episode(self._randoms[slot])
            first = self.episodes[slot].recall_begin()
            if first is None:
                self._running[slot] = asyncio.create_task(self._begin(slot, result))
            else:
                self._done[slot] = result, first

    async def _act(self, slot: int, action: int) -> Arrival:
        result = await self.episodes[slot].act(action)
        if not (result.terminated or result.truncated):
            return result, result.observation
        self.episodes[slot] = self.task.episode(self._randoms[slot])
        return await self._begin(slot, result)

    async def _begin(self, slot: int, last: Transition) -> Arrival:
        return last, await self.episodes[slot].begin()

    async def _wait(self) -> None:
        """Wait for all generations, or for all but the stragglers; what has arrived is in ``_done``."""
        tasks = set(self._running.values())
        if tasks and self.patience is None:
            await asyncio.wait(tasks)
        elif tasks:
            if not self._done:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait(tasks, timeout=self.patience)
        for slot in [slot for slot, task in self._running.items() if task.done()]:
            self._done[slot] = self._running.pop(slot).result()

    async def _cancel(self) -> None:
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        self._running.clear()
        self._done.clear()
