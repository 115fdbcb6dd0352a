"""The batched form: many episodes whose generations are all in flight at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from envs.episode import Episode, Observation, Start, Transition
from envs.observer import DEFAULT_OBSERVER, Observer
from envs.task import EngineOrFactory, Task, made
from envs.tree import MAX_NODES
from stepwise.errors import ConfigError
from stepwise.types import Look, Problem, Trace

Batch = tuple[Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]


class Arrival(NamedTuple):
    """A transition of a slot, and the observation that the agent acts on next there: the same one, or the
    first of the next episode."""

    slot: int
    result: Transition
    observation: Observation


class Slot(NamedTuple):
    """Where a slot is: enough to bring it there again."""

    start: Start
    actions: tuple[int, ...]
    random: Mapping[str, Any]  # state of its generator


class RoutingVectorEnv(VectorEnv[Observation, Any, Any]):
    """``num_envs`` episodes of `RoutingEnv`, each in a slot of its own.

    ``step`` is Gymnasium's: it issues every episode's generation before it waits, then waits for all.
    ``exchange`` waits for the first alone: whoever acts in each slot as soon as it has arrived never leaves
    the backend waiting for the slowest generation of a batch. What a slot goes through does not depend
    on the others, so both forms are reproducible.

    An episode that ends is followed by the next one within the same step (Gymnasium's ``SAME_STEP``): its
    last observation and info are in ``infos["final_obs"]`` and ``infos["final_info"]``, arrays of objects
    with None for the episodes that go on, which ``infos["_final_obs"]`` and ``infos["_final_info"]`` tell
    apart. ``infos["cost"]`` [num_envs] is the cost of the transition and ``infos["action_mask"]``
    [num_envs, models] that of `RoutingEnv`.

    Args:
        num_envs: episodes at a time.
        engine: as of `Task`, like all that follows; or a function without arguments that makes one.
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012 (Gymnasium's own)

    def __init__(
        self,
        engine: EngineOrFactory,
        problems: Sequence[Problem],
        num_envs: int = 64,
        look: Look = "after_draft",
        cost_weight: float | tuple[float, float] = 0.3,
        cost_scale: float = 1.0,
        observer: Observer = DEFAULT_OBSERVER,
        patience_s: float = 0.0,
        potential: Callable[[Trace], float] | None = None,
        max_nodes: int = MAX_NODES,
        verify: bool = False,
    ) -> None:
        if num_envs < 1:
            raise ConfigError(f"num_envs must be at least 1, not {num_envs}.")
        self.task = Task(
            made(engine), problems, look, cost_weight, cost_scale, observer, patience_s, potential, max_nodes,
            verify,
        )  # fmt: skip
        self.num_envs = num_envs
        self.single_observation_space = self.task.observation_space
        self.single_action_space = self.task.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.episodes: list[Episode] = []
        self._randoms: list[np.random.Generator] = []
        self._running: dict[int, asyncio.Task[Arrival]] = {}
        self._news = asyncio.Event()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode in every slot: the first observations [num_envs, features + actions + 1].

        Raises:
            ConfigError: if an option is unknown or out of range.
        """
        super().reset(seed=seed, options=options)
        first = self.task.engine.run(self._reset(options))
        return first, {"action_mask": self.action_masks()}

    def step(self, actions: Any) -> Batch:
        """Act in every slot and wait for all; arrays begin with [num_envs]. Errors are those of `act`."""
        return self._batch(self.act(actions))

    def act(self, actions: Any) -> list[Arrival]:
        """`step` as a list: one arrival a slot, in the order of the slots.

        Raises:
            InvalidAction: (Gymnasium's) if there is not one action a slot, or one is none of a model's.
        """
        if len(actions) != self.num_envs:
            raise gymnasium.error.InvalidAction(f"expected {self.num_envs} actions, not {len(actions)}.")
        arrivals = self.exchange(dict(enumerate(actions)))
        while len(arrivals) < self.num_envs:
            arrivals += self.exchange({})
        return sorted(arrivals, key=lambda arrival: arrival.slot)

    def exchange(self, actions: Mapping[int, int]) -> list[Arrival]:
        """Act in some slots, and return what has arrived from any since the last call: at least one, if
        anything is under way.

        Raises:
            AlreadyPendingCallError: (Gymnasium's) if a slot has not arrived since the last action there.
            InvalidAction: (Gymnasium's) if there is no such slot or action; no slot has acted then.
        """
        if not self.episodes:
            raise gymnasium.error.ResetNeeded("call reset() before step().")
        for slot in actions:
            if slot in self._running:
                raise gymnasium.error.AlreadyPendingCallError(f"slot {slot} is under way.", "exchange")
            if not 0 <= slot < self.num_envs:
                raise gymnasium.error.InvalidAction(
                    f"slot must lie between 0 and {self.num_envs - 1}, not {slot}."
                )
        checked = {slot: self.task.check_action(action) for slot, action in actions.items()}
        return self.task.engine.run(self._exchange(checked))

    def state(self) -> list[Slot]:
        """Where all slots are. None may be under way."""
        slots = zip(self.episodes, self._randoms, strict=True)
        return [Slot(e.start, tuple(e.actions), random.bit_generator.state) for e, random in slots]

    def restore(self, slots: Sequence[Slot]) -> Observation:
        """Bring slots to where they were, by the actions that led there; what the store has is not generated
        again. Returns what the agent saw there [num_envs, features + models + 1].

        Raises:
            ConfigError: if there is not one state a slot.
        """
        if len(slots) != self.num_envs:
            raise ConfigError(f"num_envs: the state is of {len(slots)} slots, not of {self.num_envs}.")
        return self.task.engine.run(self._restore(slots))

    def action_masks(self) -> NDArray[np.bool_]:
        """Which actions make sense in each slot [num_envs, models]; see `RoutingEnv`."""
        return np.stack([episode.open for episode in self.episodes])

    def close(self, **kwargs: Any) -> None:
        """Stop what is under way. The engine stays the caller's."""
        self.task.engine.run(self._cancel())
        super().close(**kwargs)

    def _batch(self, arrivals: Sequence[Arrival]) -> Batch:
        """One arrival a slot, in the order of the slots, in Gymnasium's form."""
        results = [arrival.result for arrival in arrivals]
        ended = [result.terminated or result.truncated for result in results]
        final = list(zip(results, ended, strict=True))
        info = {
            "final_obs": _objects([result.observation if end else None for result, end in final]),
            "final_info": _objects([result.info if end else None for result, end in final]),
            "_final_obs": np.array(ended),
            "_final_info": np.array(ended),
            "cost": np.array([result.info["cost"] for result in results]),
            "_cost": np.ones(self.num_envs, bool),
            "action_mask": self.action_masks(),
            "_action_mask": np.ones(self.num_envs, bool),
        }
        return (
            np.stack([arrival.observation for arrival in arrivals]),
            np.array([result.reward for result in results]),
            np.array([result.terminated for result in results]),
            np.array([result.truncated for result in results]),
            info,
        )

    # On the engine's event loop

    async def _reset(self, options: dict[str, Any] | None) -> Observation:
        await self._cancel()
        self._randoms = self.np_random.spawn(self.num_envs)
        self.episodes = [self.task.episode(random, options) for random in self._randoms]
        return np.stack(await asyncio.gather(*(episode.begin() for episode in self.episodes)))

    async def _restore(self, slots: Sequence[Slot]) -> Observation:
        await self._cancel()
        self._randoms = [np.random.default_rng() for _ in slots]
        self.episodes = []
        for slot, random in zip(slots, self._randoms, strict=True):
            self.episodes.append(self.task.episode(random, {**slot.start}))
            random.bit_generator.state = slot.random
        episodes = zip(self.episodes, slots, strict=True)
        return np.stack(await asyncio.gather(*(episode.replay(slot.actions) for episode, slot in episodes)))

    async def _exchange(self, actions: Mapping[int, int]) -> list[Arrival]:
        known = [self._start(slot, action) for slot, action in actions.items()]
        arrivals = [arrival for arrival in known if arrival]
        while True:
            self._news.clear()
            done = [slot for slot, task in self._running.items() if task.done()]
            arrivals += [self._running.pop(slot).result() for slot in done]
            if arrivals or not self._running:
                return arrivals
            await self._news.wait()

    def _start(self, slot: int, action: int) -> Arrival | None:
        """A slot's transition at once if the tree has it; else None, and it is under way as a task."""
        result = self.episodes[slot].recall_act(action)
        if result is None:
            return self._run(slot, self._act(slot, action))
        if not (result.terminated or result.truncated):
            return Arrival(slot, result, result.observation)
        self.episodes[slot] = self.task.episode(self._randoms[slot])
        first = self.episodes[slot].recall_begin()
        if first is None:
            return self._run(slot, self._begin(slot, result))
        return Arrival(slot, result, first)

    def _run(self, slot: int, work: Coroutine[Any, Any, Arrival]) -> Arrival | None:
        """Work that takes its time; there is nothing to return yet."""
        self._running[slot] = asyncio.create_task(work)
        self._running[slot].add_done_callback(lambda _: self._news.set())
        return None

    async def _act(self, slot: int, action: int) -> Arrival:
        result = await self.episodes[slot].act(action)
        if not (result.terminated or result.truncated):
            return Arrival(slot, result, result.observation)
        self.episodes[slot] = self.task.episode(self._randoms[slot])
        return await self._begin(slot, result)

    async def _begin(self, slot: int, last: Transition) -> Arrival:
        return Arrival(slot, last, await self.episodes[slot].begin())

    async def _cancel(self) -> None:
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        self._running.clear()


def _objects(values: Sequence[Any]) -> NDArray[Any]:
    """Values as they are, one a slot."""
    array = np.empty(len(values), object)
    for place, value in enumerate(values):
        array[place] = value
    return array
