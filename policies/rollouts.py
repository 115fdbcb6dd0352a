"""Collecting experience without waiting for the slowest episode.

SB3's own loop acts in all slots at once, so that every generation waits for the longest of its batch. Here
each slot acts as soon as its step has arrived, and fills its own column of the rollout at its own pace.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback

from envs.vector import Arrival, Slot
from policies.sb3_env import SB3Routing, sb3_info


class RoutingPPO(PPO):
    """PPO over `SB3Routing`; a rollout is the same whatever order the generations end in.

    The randomness of every choice is drawn beforehand (Gumbel noise: the largest of logit plus noise is a
    sample), and the network always sees all slots, because the rounding of a matrix product depends on its
    shape.

    Attributes:
        imitation: how much of the warm start's rule the policy had learnt, where there was one.
        errors: episodes that failed.
        slots: where the episodes were at the last checkpoint.
    """

    imitation: float | None = None
    errors: int = 0
    slots: Sequence[Slot] = ()

    def go_on(self) -> None:
        """Bring the episodes to where they were at the checkpoint that this was loaded from."""
        batch: Any = self.env
        slots = [Slot(*slot) for slot in self.slots]  # a checkpoint keeps them as plain lists
        self._last_obs = batch.env.restore(slots)
        self._last_episode_starts = np.array([not slot.actions for slot in slots])

    def collect_rollouts(
        self, env: Any, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Fill ``n_rollout_steps`` transitions of each slot; False if a callback ends the training."""
        batch: SB3Routing = env
        self.policy.set_training_mode(False)
        rollout_buffer.reset()
        callback.on_rollout_start()
        noise = gumbel(n_rollout_steps, batch.num_envs, batch.env.task.action_space.n)
        at = np.zeros(batch.num_envs, int)
        ready = np.arange(batch.num_envs)
        infos: list[dict[str, Any]] = []
        while True:
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            if (at == n_rollout_steps).all():
                break
            actions = self._choose(rollout_buffer, at, ready, noise)
            arrivals = batch.env.exchange(dict(zip(ready.tolist(), actions, strict=True)))
            infos = [self._record(rollout_buffer, at, arrival) for arrival in arrivals]
            arrived = np.array([arrival.slot for arrival in arrivals])
            ready = arrived[at[arrived] < n_rollout_steps]
        self._close(rollout_buffer)
        callback.on_rollout_end()
        return True

    def _choose(
        self, buffer: RolloutBuffer, at: NDArray[np.int64], ready: NDArray[np.int64], noise: torch.Tensor
    ) -> list[int]:
        """Actions for the slots that are ready, put into the buffer with what they were chosen on."""
        seen: Any = self._last_obs
        with torch.no_grad():
            distribution: Any = self.policy.get_distribution(torch.as_tensor(seen)).distribution
        scores = distribution.logits[ready] + noise[at[ready], ready]
        actions = scores.argmax(1).numpy()
        buffer.observations[at[ready], ready] = seen[ready]
        buffer.actions[at[ready], ready, 0] = actions
        buffer.episode_starts[at[ready], ready] = self._last_episode_starts[ready]  # type: ignore[index]
        chosen: list[int] = actions.tolist()
        return chosen

    def _record(self, buffer: RolloutBuffer, at: NDArray[np.int64], arrival: Arrival) -> dict[str, Any]:
        """Put a transition into the buffer; returns what SB3's callbacks are told of it."""
        slot, result, observation = arrival
        reward = result.reward
        if result.truncated:  # an episode that was cut off might have gone on: SB3 adds what it was worth
            with torch.no_grad():
                left = self.policy.predict_values(torch.as_tensor(result.observation[None]))
            reward += self.gamma * float(left)
        buffer.rewards[at[slot], slot] = reward
        at[slot] += 1
        self.num_timesteps += 1
        self._last_obs[slot] = observation  # type: ignore[index]
        self._last_episode_starts[slot] = result.terminated or result.truncated  # type: ignore[index]
        return sb3_info(result)

    def _close(self, buffer: RolloutBuffer) -> None:
        """What the network thinks of the rollout, in one pass, and the advantages."""
        rows = buffer.observations.reshape(-1, buffer.observations.shape[-1])
        with torch.no_grad():
            values, chances, _ = self.policy.evaluate_actions(
                torch.as_tensor(rows), torch.as_tensor(buffer.actions.reshape(-1))
            )
            last = self.policy.predict_values(torch.as_tensor(self._last_obs))
        buffer.values[:] = values.numpy().reshape(buffer.values.shape)
        buffer.log_probs[:] = chances.numpy().reshape(buffer.log_probs.shape)
        buffer.pos, buffer.full = buffer.buffer_size, True
        starts: Any = self._last_episode_starts
        buffer.compute_returns_and_advantage(last_values=last, dones=starts)


def gumbel(*shape: Any) -> torch.Tensor:
    """Standard Gumbel noise: argmax(logits + noise) is a sample of softmax(logits)."""
    return -torch.empty(*shape).exponential_().log()
