"""PPO on the Gymnasium environment in one file, in CleanRL's style, without our training code.

python -m examples.cleanrl_loop

An action accepts the small model's draft of a step (0) or lets the large model write it (1). A chain's return
is 1 for a right answer, minus λ times what it cost. The models are the tiny ones that ship.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from torch import nn

import envs  # noqa: F401  (registers the environment)
from stepwise import load_dataset, load_pair
from stepwise.routers import Always

SLOTS, LENGTH, UPDATES = 32, 24, 12
CLIP, ENTROPY, VALUE, LAMBDA, EPOCHS, MINIBATCH = 0.2, 0.01, 0.5, 0.95, 4, 256
COST_WEIGHT = 0.3  # λ: a chain by the large model alone costs about a third of what a right answer is worth


class Agent(nn.Module):
    """Policy and value of an observation."""

    def __init__(self, features: int, actions: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(features, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
        self.policy, self.value = nn.Linear(64, actions), nn.Linear(64, 1)

    def forward(self, observation: torch.Tensor) -> tuple[torch.distributions.Categorical, torch.Tensor]:
        hidden = self.body(observation)
        return torch.distributions.Categorical(logits=self.policy(hidden)), self.value(hidden).squeeze(-1)


def rollout(env: Any, agent: Agent, observation: Any) -> tuple[dict[str, torch.Tensor], Any]:
    """LENGTH steps in every slot [LENGTH, SLOTS, ...], with advantages (GAE, arXiv 1506.02438)."""
    rows: dict[str, list[Any]] = {
        name: [] for name in ("seen", "action", "logprob", "value", "reward", "done")
    }
    for _ in range(LENGTH):
        seen = torch.as_tensor(observation)
        with torch.no_grad():
            policy, value = agent(seen)
            action = policy.sample()
        observation, reward, terminated, truncated, _ = env.step(action.numpy())
        values = (seen, action, policy.log_prob(action), value, reward, terminated | truncated)
        for name, entry in zip(rows, values, strict=True):
            rows[name].append(torch.as_tensor(entry))
    batch = {name: torch.stack(entries) for name, entries in rows.items()}
    with torch.no_grad():
        following = agent(torch.as_tensor(observation))[1]
    advantage, advantages = torch.zeros(SLOTS), []
    for t in reversed(range(LENGTH)):
        goes_on = 1.0 - batch["done"][t].float()
        surprise = batch["reward"][t].float() + following * goes_on - batch["value"][t]
        advantage = surprise + LAMBDA * goes_on * advantage
        advantages.append(advantage)
        following = batch["value"][t]
    batch["advantage"] = torch.stack(advantages[::-1])
    return batch, observation


def update(agent: Agent, optimiser: torch.optim.Optimizer, batch: dict[str, torch.Tensor]) -> None:
    """PPO's clipped objective (arXiv 1707.06347) on one batch of rollouts."""
    flat = {name: rows.flatten(0, 1) for name, rows in batch.items()}
    returns = flat["advantage"] + flat["value"]
    advantage = (flat["advantage"] - flat["advantage"].mean()) / (flat["advantage"].std() + 1e-8)
    for _ in range(EPOCHS):
        for rows in torch.split(torch.randperm(SLOTS * LENGTH), MINIBATCH):
            policy, value = agent(flat["seen"][rows])
            ratio = (policy.log_prob(flat["action"][rows]) - flat["logprob"][rows]).exp()
            gain = torch.min(
                ratio * advantage[rows], ratio.clamp(1 - CLIP, 1 + CLIP) * advantage[rows]
            ).mean()
            error = (value - returns[rows]).square().mean()
            optimiser.zero_grad()
            (VALUE * error - gain - ENTROPY * policy.entropy().mean()).backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimiser.step()


def mean_return(env: Any, choose: Any, episodes: int = 100) -> float:
    """Of episodes that a rule or a policy acts in."""
    observation, _ = env.reset(seed=1)
    total, finished = 0.0, 0
    while finished < episodes:
        observation, reward, terminated, truncated, _ = env.step(choose(observation))
        total += float(reward.sum())
        finished += int((terminated | truncated).sum())
    return total / finished


def main(updates: int = UPDATES) -> dict[str, float]:
    """Train, and compare mean returns on other problems."""
    torch.manual_seed(0)
    engine = load_pair("nano").engine()
    # A chain of the large model alone costs about this much: the unit that λ counts in.
    problems = load_dataset("nano", split="train", limit=60)
    scale = float(np.mean([engine.solve_sync(problem, Always("large")).cost for problem in problems[:20]]))
    settings: dict[str, Any] = {"engine": engine, "cost_weight": COST_WEIGHT, "cost_scale": scale}
    train = gymnasium.make_vec("stepwise/Routing-v0", SLOTS, problems=problems, **settings)
    agent = Agent(train.single_observation_space.shape[0], 2)  # type: ignore[index]
    optimiser = torch.optim.Adam(agent.parameters(), lr=2e-3, eps=1e-5)
    observation, _ = train.reset(seed=0)
    for index in range(updates):
        batch, observation = rollout(train, agent, observation)
        update(agent, optimiser, batch)
        share = batch["action"].float().mean()
        print(
            f"update {index + 1}: reward a step {batch['reward'].mean():.3f}, large model writes {share:.0%}"
        )
    test = gymnasium.make_vec(
        "stepwise/Routing-v0", SLOTS, problems=load_dataset("nano", split="validation", limit=60), **settings
    )
    random = np.random.default_rng(0)
    results = {
        "small": mean_return(test, lambda seen: np.zeros(len(seen), int)),
        "large": mean_return(test, lambda seen: np.ones(len(seen), int)),
        "random": mean_return(test, lambda seen: random.integers(2, size=len(seen))),
        "learned": mean_return(test, lambda seen: agent(torch.as_tensor(seen))[0].logits.argmax(-1).numpy()),
    }
    for name, value in results.items():
        print(f"{name:8} mean return {value:.3f}")
    return results


if __name__ == "__main__":
    main()
