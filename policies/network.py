"""The policy network: what the large model would gain, and what it would cost.

For every model beyond the cheapest the actor predicts a gain ``g`` (in units of P(correct)) and a
cost ``c > 0`` (in units of large-only cost), from the trace alone. At a cost weight ``λ`` the
logit of that model is ``k (g - λ c)``, against 0 for the cheapest. One network therefore covers
the whole frontier, and ``g / c``, the λ at which it is indifferent, is a score that needs no
λ: serving thresholds it. Actions that the observation's mask rules out are never taken.
"""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import nn

from envs.episode import MAX_COST_WEIGHT

MASKED = -1e8
"""The logit of an action that makes no sense; finite, so that its entropy is 0 and not undefined."""


def cost_weight_of(feature: torch.Tensor) -> torch.Tensor:
    """Undo `envs.episode.cost_weight_feature`."""
    span = torch.log1p(torch.tensor(10.0 * MAX_COST_WEIGHT, device=feature.device))
    return torch.expm1(feature * span) / 10.0


class GainCost(nn.Module):
    """Actor and critic bodies in the shape that SB3 asks of an ``mlp_extractor``.

    Args:
        features: length of the observation: what the trace says, the action mask, and the cost weight.
        models: number of actions: one a model, and one more where a draft can be read first.
        width: of the two hidden layers.
    """

    def __init__(self, features: int, models: int, width: int) -> None:
        super().__init__()
        self.latent_dim_pi, self.latent_dim_vf = models, width
        self.seen = features - models - 1
        self.trunk = nn.Sequential(nn.Linear(self.seen, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())
        self.gain = nn.Linear(width, models - 1)
        self.cost = nn.Linear(width, models - 1)
        self.sharpness = nn.Parameter(torch.tensor(1.6))
        self.critic = nn.Sequential(nn.Linear(features, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh())

    def forward(self, observation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.forward_actor(observation), self.forward_critic(observation)

    def forward_actor(self, observation: torch.Tensor) -> torch.Tensor:
        """Logits [batch, models]."""
        hidden = self.trunk(observation[:, : self.seen])
        cost = nn.functional.softplus(self.cost(hidden))
        surplus = self.gain(hidden) - cost_weight_of(observation[:, -1:]) * cost
        logits = self.sharpness.exp() * surplus
        logits = torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1)
        return logits.masked_fill(observation[:, self.seen : -1] == 0.0, MASKED)

    def forward_critic(self, observation: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.critic(observation)
        return hidden


class GainCostPolicy(ActorCriticPolicy):
    """SB3's actor-critic with `GainCost` as its body and its logits taken as they are."""

    def __init__(self, *args: Any, width: int = 64, **kwargs: Any) -> None:
        self._width = width
        super().__init__(*args, **{**kwargs, "ortho_init": False})

    def _build_mlp_extractor(self) -> None:
        actions = int(self.action_space.n)  # type: ignore[attr-defined]
        self.mlp_extractor = GainCost(self.features_dim, actions, self._width)  # type: ignore[assignment]

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        self.action_net = nn.Identity()
        settings: dict[str, Any] = {"lr": lr_schedule(1), **self.optimizer_kwargs}
        self.optimizer = self.optimizer_class(self.parameters(), **settings)
