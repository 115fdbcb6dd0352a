"""TRIM-Agg: the published PPO router over process rewards, for comparison.

Five numbers, all from a process reward model that reads every draft, a network of 13,571 parameters, and a
reward that charges for the tokens of the large model alone (constants of the public implementation). Two
things are ours: decisions are greedy in evaluation, and steps that the large model wrote, which nobody
rewards, count as 1.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from envs.observer import Observer
from envs.vector import RoutingVectorEnv
from policies.sb3_env import SB3Routing
from stepwise.errors import ConfigError
from stepwise.routers import ProcessReward
from stepwise.types import Decision, Look, Step, Trace

FEATURES = ("worst_before", "product_before", "reward", "tokens", "position")
CONSTANTS: dict[str, Any] = {
    "gamma": 1.0,
    "gae_lambda": 0.95,
    "clip_range": 0.2,
    "clip_range_vf": 0.2,
    "vf_coef": 0.5,
    "ent_coef": 0.01,
    "n_epochs": 3,
    "max_grad_norm": 0.5,
}
ENTROPY = (0.01, 0.001)
RATE = 3e-4


def reward(step: Step, good: str) -> float:
    """What the reward model gave a draft; 1 for a step that it did not see."""
    if step.verdict is None:
        return 1.0
    return ProcessReward(good).reward(step.verdict)


def observe(trace: Trace, good: str) -> NDArray[np.float32]:
    """[min and product of the rewards so far, the draft's reward, its tokens / 300, steps / 30]."""
    before = [reward(step, good) for step in trace.steps]
    draft = trace.draft
    values = (
        min(before, default=1.0),
        float(np.prod(before)),
        reward(draft, good) if draft else 1.0,
        len(draft.token_ids) / 300 if draft else 0.0,
        len(trace.steps) / 30,
    )
    return np.clip(np.array(values, np.float32), 0.0, 1.0)


def large_tokens(trace: Trace, large: str) -> float:
    """Tokens that the large model wrote: the cost that TRIM charges."""
    usage = trace.usage.get(large)
    return float(usage.completion) if usage else 0.0


def observer(good: str) -> Observer:
    """TRIM's five numbers, and only the large model's tokens as the cost."""
    return Observer(
        FEATURES,
        np.zeros(5, np.float32),
        np.ones(5, np.float32),
        lambda trace, small, large: observe(trace, good),
        large_tokens,
    )


class Body(nn.Module):
    """5-64-64 with LayerNorm, tanh and dropout, then one more layer for the actor and one for the critic."""

    latent_dim_pi = latent_dim_vf = 64

    def __init__(self) -> None:
        super().__init__()

        def layer(width: int) -> list[nn.Module]:
            return [nn.Linear(width, 64), nn.LayerNorm(64), nn.Tanh()]

        self.trunk = nn.Sequential(*layer(5), nn.Dropout(0.1), *layer(64), nn.Dropout(0.1))
        self.actor, self.critic = nn.Sequential(*layer(64)), nn.Sequential(*layer(64))

    def forward(self, observation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.trunk(observation[:, :5])  # the cost weight is not TRIM's to see
        return self.actor(hidden), self.critic(hidden)

    def forward_actor(self, observation: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.actor(self.trunk(observation[:, :5]))
        return hidden

    def forward_critic(self, observation: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.critic(self.trunk(observation[:, :5]))
        return hidden


class TrimPolicy(ActorCriticPolicy):
    """SB3's actor-critic around `Body`."""

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = Body()  # type: ignore[assignment]


class Annealing(BaseCallback):
    """The entropy bonus falls linearly over the run."""

    def _on_rollout_start(self) -> None:
        model: Any = self.model
        model.ent_coef = ENTROPY[1] + (ENTROPY[0] - ENTROPY[1]) * model._current_progress_remaining

    def _on_step(self) -> bool:
        return True


def train(env: RoutingVectorEnv, steps: int, seed: int, output: Path) -> None:
    """PPO with TRIM's constants; a batch is one step of as many episodes as are played at once."""
    n_steps = 8
    model = PPO(
        TrimPolicy,
        SB3Routing(env),
        n_steps=n_steps,
        batch_size=n_steps * env.num_envs,
        learning_rate=lambda left: RATE * left,
        policy_kwargs={"optimizer_kwargs": {"eps": 1e-5, "weight_decay": 1e-5}, "ortho_init": False},
        seed=seed,
        device="cpu",
        **CONSTANTS,
    )
    model.learn(steps, callback=Annealing())
    output.mkdir(parents=True, exist_ok=True)
    model.save(output / "trim.zip")


@dataclass(frozen=True, repr=False)
class TrimRouter:
    """Serves a policy trained for one cost weight of a large token.

    Args:
        folder: where `scripts.baselines.trim` has put one folder a cost weight.
        cost_weight: λ, the reward lost per token of the large model.
    """

    folder: str
    cost_weight: float
    good: str = "9"
    small: str = "small"
    large: str = "large"
    name: str = "trim_agg"
    look: Look = "judged"

    def __repr__(self) -> str:
        """Identifies the policy by its content, as frozen values do."""
        return f"TrimRouter({self.cost_weight:g}, {hashlib.sha256(self._file.read_bytes()).hexdigest()[:16]})"

    def __post_init__(self) -> None:
        if not self._file.is_file():
            raise ConfigError(
                f"router trim_agg: {self._file} is missing; run `python -m scripts.baselines.trim`."
            )

    @property
    def _file(self) -> Path:
        return Path(self.folder) / f"{self.cost_weight:g}" / "trim.zip"

    def decide(self, trace: Trace) -> Decision:
        seen = torch.from_numpy(np.append(observe(trace, self.good), np.float32(0.0)))[None]
        with torch.no_grad():
            chances = _load(self._file).get_distribution(seen).distribution.probs[0]
        score = float(chances[1])
        return Decision(self.large if score >= 0.5 else self.small, score, f"P(large) {score:.2f}")


@cache
def _load(file: Path) -> Any:
    return PPO.load(file, device="cpu").policy.eval()
