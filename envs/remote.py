"""The batched form with its slots in other processes, for rollouts that one process is too little for.

Whoever learns still chooses every action, with the policy of now, and no experience is ever older than the
rollout that it is learned from: what travels are actions and what they led to, never a policy. A slot takes
its randomness along, so that what it goes through does not depend on where it is, nor on the others: any
number of parts gives what one process gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from envs.episode import Observation
from envs.vector import Arrival, RoutingVectorEnv, Slot
from stepwise.errors import BackendError, ConfigError

ATTEMPTS = 10
"""Times in a row that a part may be lost before it is given up."""
CostWeight = float | tuple[float, float]


class Lost(Exception):
    """A part's process is gone, and with it what it had under way."""


class Moved(NamedTuple):
    """An arrival in a part, and where the slot is if an episode has begun there."""

    arrival: Arrival
    slot: Slot | None


class Part(Protocol):
    """Some of the slots, numbered from 0; one call at a time."""

    def restore(self, slots: Sequence[Slot], cost_weight: CostWeight) -> Future[Any]:
        """`RoutingVectorEnv.restore`, in a process that may have been started again."""
        ...

    def exchange(self, actions: Mapping[int, int], cost_weight: CostWeight) -> Future[Any]:
        """`RoutingVectorEnv.exchange`, giving `Moved`."""
        ...

    def result(self, future: Future[Any]) -> Any:
        """What a call gave.

        Raises:
            Lost: if the process went down.
            StepwiseError: what was raised there.
        """
        ...

    def close(self) -> None: ...


class Slots:
    """Some slots in this process, on behalf of another one (a `stepwise.cluster.worker.Service`).

    Args:
        make: a vector environment of so many slots.
    """

    about = None

    def __init__(self, make: Callable[[int], RoutingVectorEnv]) -> None:
        self._make = make
        self._env: RoutingVectorEnv | None = None

    def restore(self, slots: Sequence[Slot], cost_weight: CostWeight) -> Observation:
        if self._env is None:
            self._env = self._make(len(slots))
        self._env.task.cost_weight = cost_weight
        return self._env.restore(slots)

    def exchange(self, actions: Mapping[int, int], cost_weight: CostWeight) -> list[Moved]:
        """
        Raises:
            ConfigError: before `restore`.
        """
        if self._env is None:
            raise ConfigError("slots must be restored before they are acted in.")
        self._env.task.cost_weight = cost_weight
        return [self._moved(self._env, arrival) for arrival in self._env.exchange(actions)]

    @staticmethod
    def _moved(env: RoutingVectorEnv, arrival: Arrival) -> Moved:
        """Without the trace, which is long and of which nobody learns."""
        result = arrival.result
        info = {name: value for name, value in result.info.items() if name != "trace"}
        ended = result.terminated or result.truncated
        slot = env.state()[arrival.slot] if ended else None
        return Moved(arrival._replace(result=replace(result, info=info)), slot)


class RemoteVectorEnv(RoutingVectorEnv):
    """`RoutingVectorEnv` over parts. A part that is lost is brought to where it was by the actions that led
    there.

    Args:
        parts: that the slots are spread over.
        others: those of `RoutingVectorEnv`; its engine checks the problems here and grows nothing.

    Attributes:
        lost: parts that had to be restored so far.
    """

    def __init__(self, parts: Sequence[Part], *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        if not 1 <= len(parts) <= self.num_envs:
            raise ConfigError(f"num_envs: {self.num_envs} slots cannot be spread over {len(parts)} workers.")
        self.lost = 0
        self._parts = parts
        self._shares = [share.tolist() for share in np.array_split(np.arange(self.num_envs), len(parts))]
        self._place = {
            slot: (part, i) for part, share in enumerate(self._shares) for i, slot in enumerate(share)
        }
        self._slots: list[Slot] = []
        self._seen: Observation = np.zeros_like(self.observation_space.sample())
        self._next: list[dict[int, int]] = [{} for _ in parts]
        self._sent: list[dict[int, int]] = [{} for _ in parts]
        self._calls: dict[Future[Any], int] = {}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        VectorEnv.reset(self, seed=seed, options=options)
        slots = []
        for random in self.np_random.spawn(self.num_envs):
            start = self.task.episode(random, options).start
            slots.append(Slot(start, (), random.bit_generator.state))
        return self.restore(slots), {"action_mask": self.action_masks()}

    def exchange(self, actions: Mapping[int, int]) -> list[Arrival]:
        if not self._slots:
            raise gymnasium.error.ResetNeeded("call reset() before step().")
        for slot, action in actions.items():
            if slot not in self._place:
                raise gymnasium.error.InvalidAction(
                    f"slot must lie between 0 and {self.num_envs - 1}, not {slot}."
                )
            part, i = self._place[slot]
            if i in self._next[part] or i in self._sent[part]:
                raise gymnasium.error.AlreadyPendingCallError(f"slot {slot} is under way.", "exchange")
            self.task.check_action(action)
        for slot, action in actions.items():
            part, i = self._place[slot]
            self._next[part][i] = int(action)
        return self._arrivals()

    def state(self) -> list[Slot]:
        return list(self._slots)

    def restore(self, slots: Sequence[Slot]) -> Observation:
        if len(slots) != self.num_envs:
            raise ConfigError(f"num_envs: the state is of {len(slots)} slots, not of {self.num_envs}.")
        wait(self._calls)
        self._calls.clear()
        self._slots = list(slots)
        self._next, self._sent = [{} for _ in self._parts], [{} for _ in self._parts]
        calls = [self._restore_part(part) for part in range(len(self._parts))]
        for part, call in enumerate(calls):
            self._seen[self._shares[part]] = self._restored(part, call)
        return self._seen.copy()

    def action_masks(self) -> NDArray[np.bool_]:
        count = int(self.task.action_space.n)
        return np.asarray(self._seen[:, -1 - count : -1] > 0)

    def close(self, **kwargs: Any) -> None:
        for part in self._parts:
            part.close()
        super().close(**kwargs)

    def _arrivals(self) -> list[Arrival]:
        """What comes first, from any part; nothing if nothing is under way."""
        while True:
            self._send()
            if not self._calls:
                return []
            done, _ = wait(self._calls, return_when=FIRST_COMPLETED)
            arrivals = [arrival for call in done for arrival in self._received(call)]
            if arrivals:
                return arrivals

    def _send(self) -> None:
        """A call to every part that has something to do and no call under way."""
        busy = set(self._calls.values())
        for number, part in enumerate(self._parts):
            if number not in busy and (self._next[number] or self._sent[number]):
                actions, self._next[number] = self._next[number], {}
                self._sent[number] |= actions
                self._calls[part.exchange(actions, self.task.cost_weight)] = number

    def _received(self, call: Future[Any]) -> list[Arrival]:
        number = self._calls.pop(call)
        try:
            moved: list[Moved] = self._parts[number].result(call)
        except Lost:
            self._restored(number, self._restore_part(number))
            self._next[number] |= self._sent[number]
            self._sent[number] = {}
            self.lost += 1
            return []
        return [self._arrived(number, *each) for each in moved]

    def _arrived(self, number: int, arrival: Arrival, begun: Slot | None) -> Arrival:
        slot = self._shares[number][arrival.slot]
        action, before = self._sent[number].pop(arrival.slot), self._slots[slot]
        self._slots[slot] = begun or before._replace(actions=(*before.actions, action))
        self._seen[slot] = arrival.observation
        return arrival._replace(slot=slot)

    def _restore_part(self, number: int) -> Future[Any]:
        slots = [self._slots[slot] for slot in self._shares[number]]
        return self._parts[number].restore(slots, self.task.cost_weight)

    def _restored(self, number: int, call: Future[Any]) -> Observation:
        """
        Raises:
            BackendError: if the part is lost again and again.
        """
        last: Lost | None = None
        for _ in range(ATTEMPTS):
            try:
                seen: Observation = self._parts[number].result(call)
                return seen
            except Lost as error:
                last, call = error, self._restore_part(number)
        raise BackendError(f"a worker with rollouts went down {ATTEMPTS} times in a row: {last}") from last
