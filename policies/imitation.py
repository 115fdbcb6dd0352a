"""A warm start: do what the best threshold rule does, before reinforcement learning begins.

At every cost weight one rule on the draft's probabilities, with one threshold, is the best on the training
problems. The policy learns its actions there (behaviour cloning, Pomerleau 1989) and the critic what came of
them, so that PPO starts from the best handcrafted router instead of a random one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from envs.episode import observation
from envs.task import Task
from policies.validation import COST_WEIGHTS, Act, Walk, walk
from stepwise.errors import ConfigError

SIGNALS = ("draft_min", "draft_mean")
QUANTILES = (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
BATCH = 1024


def rule(feature: int, threshold: float, large: int) -> Act:
    """The most expensive model where a log-probability of the draft is at most the threshold."""
    return lambda seen: np.where(seen[:, feature] <= threshold, large, 0).tolist()


def imitate(policy: Any, task: Task, *, problems: int, epochs: int, rate: float, seed: int) -> float:
    """Train actor and critic on what the best rule does at each cost weight; returns the share of its actions
    that the actor then takes.

    Args:
        policy: an SB3 policy around `GainCost`.
        task: its first ``problems`` problems are walked, once by every rule.
        epochs: passes over the demonstrations.
        rate: Adam's, falling linearly to 0.

    Raises:
        ConfigError: if the policy does not see the signals of a draft.
    """
    seen, actions, returns = demonstrations(task, problems)
    optimizer = torch.optim.Adam(policy.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(seed)
    steps = epochs * -(-len(seen) // BATCH)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, steps)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(seen), generator=generator), BATCH):
            logits = policy.mlp_extractor.forward_actor(seen[rows])
            loss = torch.nn.functional.cross_entropy(logits, actions[rows])
            loss = loss + torch.nn.functional.mse_loss(policy.predict_values(seen[rows])[:, 0], returns[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        taken = policy.mlp_extractor.forward_actor(seen).argmax(1)
    return float((taken == actions).float().mean())


def demonstrations(task: Task, problems: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Observations [k, n], the best rule's actions [k] and what was still to come [k], over all cost
    weights."""
    names = task.observer.features
    if not set(SIGNALS) <= set(names) or task.look == "before":
        raise ConfigError("imitation: the policy must look at drafts and see draft_min and draft_mean.")

    def follow(act: Act) -> list[Walk]:
        return task.engine.run(walk(task.tree, task.problems[:problems], [0.0], act))

    large = len(task.engine.models) - 1
    drafts = [
        node.features for drafted in follow(lambda seen: [0] * len(seen)) for node in drafted.nodes[:-1]
    ]
    runs = [
        follow(rule(feature, threshold, large))
        for feature in map(names.index, SIGNALS)
        for threshold in np.quantile([draft[feature] for draft in drafts], QUANTILES)
    ]
    seen, actions, returns = [], [], []
    for cost_weight in COST_WEIGHTS:
        per_cost = cost_weight / task.cost_scale
        best = max(runs, key=lambda run: sum(_values(chain, per_cost)[0] for chain in run))
        for chain in best:
            seen += [observation(node, cost_weight) for node in chain.nodes[:-1]]
            actions += chain.actions
            returns += _values(chain, per_cost)[:-1]
    return torch.from_numpy(np.stack(seen)), torch.tensor(actions), torch.tensor(returns, dtype=torch.float32)


def _values(chain: Walk, cost_weight: float) -> list[float]:
    """What was still to come at each node of a chain and at its end: correct - λ * cost."""
    end = chain.end
    return [end.correct - cost_weight * (end.cost - node.cost) for node in chain.nodes]
