"""The batched environment as Stable-Baselines3 wants it.

SB3 reads ``terminal_observation`` and ``TimeLimit.truncated`` from one dict per environment, where Gymnasium
has ``infos["final_obs"]`` and two flags. This is the only place that knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from envs.episode import Transition
from envs.vector import RoutingVectorEnv


def sb3_info(result: Transition) -> dict[str, Any]:
    """What SB3 and its callbacks want to know of a transition."""
    info: dict[str, Any] = {"TimeLimit.truncated": result.truncated}
    if result.terminated or result.truncated:
        info["terminal_observation"] = result.observation
    if result.terminated:  # a failed chain says neither what a chain costs nor whether it is right
        info |= {name: result.info[name] for name in ("correct", "total_cost")}
    return info


class SB3Routing(VecEnv):
    """Adapter from `RoutingVectorEnv` to SB3's ``VecEnv``."""

    def __init__(self, env: RoutingVectorEnv) -> None:
        self.env = env
        self.render_mode = None
        self._actions: NDArray[np.int64] | None = None
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> Any:
        observations, _ = self.env.reset(seed=self._seeds[0])
        self._reset_seeds()
        return observations

    def step_async(self, actions: NDArray[np.int64]) -> None:
        self._actions = actions

    def step_wait(self) -> Any:
        arrivals = self.env.act(self._actions)
        ended = np.array([arrival.result.terminated or arrival.result.truncated for arrival in arrivals])
        rewards = np.array([arrival.result.reward for arrival in arrivals], np.float32)
        infos = [sb3_info(arrival.result) for arrival in arrivals]
        return np.stack([arrival.observation for arrival in arrivals]), rewards, ended, infos

    def close(self) -> None:
        self.env.close()

    # Slots of a batched environment are not objects of their own; sb3-contrib asks them for their masks.

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.env, attr_name, None)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError("the slots of RoutingVectorEnv share their attributes.")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        if method_name == "action_masks":
            masks = self.env.action_masks()
            return [masks[slot] for slot in self._get_indices(indices)]
        raise NotImplementedError(f"the slots of RoutingVectorEnv have no method {method_name!r}.")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * len(list(self._get_indices(indices)))

    def get_images(self) -> Sequence[None]:
        return [None] * self.num_envs
