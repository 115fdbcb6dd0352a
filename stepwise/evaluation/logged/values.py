"""What is still to come after a decision, fitted on a log: the values of doubly robust estimates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stepwise.evaluation.logged.weighed import Array, Weighed

FOLDS = 2
RIDGE = 1.0


@dataclass(frozen=True)
class Values:
    """Sums of the rewards to come under the target, [n, T]; 0 behind a chain's end.

    Attributes:
        action: Q(s_t, a_t), of what was done.
        state: V(s_t) = sum over models of pi(a | s_t) Q(s_t, a).
    """

    action: Array
    state: Array


def fitted(weighed: Weighed, rewards: Array) -> Values:
    """Least-squares temporal differences for Q (Lagoudakis & Parr 2003, "Least-squares policy iteration",
    section 5), linear in the features of the state for each model, undiscounted, with a ridge.

    Each half of the chains gets the values that were fitted on the other half, so that a chain's own reward
    is in none of its values.

    Args:
        rewards: [n, T].
    """
    values = Values(np.zeros_like(rewards), np.zeros_like(rewards))
    fold = np.arange(len(weighed)) % FOLDS
    for held in range(FOLDS):
        mine = fold == held
        others = ~mine if len(weighed) >= FOLDS else mine
        weights = _fit(weighed.rows(others), rewards[others])
        part = weighed.rows(mine)
        predicted = part.features @ weights.T
        values.action[mine] = np.take_along_axis(predicted, part.taken[..., None], 2)[..., 0]
        values.state[mine] = (predicted * part.target).sum(2)
    return values


def _fit(weighed: Weighed, rewards: Array) -> Array:
    """Weights [models, F] with Q(s, a) = r + V(s'), as nearly as the features allow."""
    alive, models = weighed.alive, weighed.target.shape[2]
    here = _spread(weighed.features, np.eye(models)[weighed.taken])[alive]
    target = _spread(weighed.features, weighed.target)
    ahead = np.concatenate([target[:, 1:], np.zeros_like(target[:, :1])], 1)[alive]
    system = here.T @ (here - ahead) + RIDGE * np.eye(here.shape[1])
    weights: Array = np.linalg.solve(system, here.T @ rewards[alive])
    return weights.reshape(models, -1)


def _spread(features: Array, shares: Array) -> Array:
    """A copy of the features for each model, times its share: [n, T, models x F]."""
    spread: Array = (shares[..., None] * features[:, :, None, :]).reshape(*features.shape[:2], -1)
    return spread
