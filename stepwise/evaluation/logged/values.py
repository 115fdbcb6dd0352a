"""What is still to come after a decision, fitted on a log: the values of doubly robust estimates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stepwise.evaluation.logged.weighed import Array, Weighed

FOLDS = 2
RIDGE = 1.0


@dataclass(frozen=True)
class Values:
    """Sums of the rewards to come under the target, [n, T]; 0 behind a chain's end.

    Attributes:
        action: Q(s_t, a_t), of what was done.
        state: V(s_t) = Q(s_t, target's choice).
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
    models = int(max(weighed.taken.max(), weighed.chosen.max())) + 1
    fold = np.arange(len(weighed)) % FOLDS
    for held in range(FOLDS):
        mine = fold == held
        others = ~mine if len(weighed) >= FOLDS else mine
        weights = _fit(weighed.rows(others), rewards[others], models)
        part = weighed.rows(mine)
        predicted = part.features @ weights.T
        values.action[mine] = _of(predicted, part.taken)
        values.state[mine] = _of(predicted, part.chosen)
    return values


def _fit(weighed: Weighed, rewards: Array, models: int) -> Array:
    """Weights [models, F] with Q(s, a) = r + V(s'), as nearly as the features allow."""
    alive = weighed.alive
    here = _spread(weighed.features, weighed.taken, models)[alive]
    target = _spread(weighed.features, weighed.chosen, models)
    ahead = np.concatenate([target[:, 1:], np.zeros_like(target[:, :1])], 1)[alive]
    system = here.T @ (here - ahead) + RIDGE * np.eye(here.shape[1])
    weights: Array = np.linalg.solve(system, here.T @ rewards[alive])
    return weights.reshape(models, -1)


def _spread(features: Array, models: NDArray[np.int64], count: int) -> Array:
    """A copy of the features for each model, 0 but for the one that is meant: [n, T, models x F]."""
    meant = models[..., None, None] == np.arange(count)[:, None]
    spread: Array = (meant * features[:, :, None, :]).reshape(*features.shape[:2], -1)
    return spread


def _of(predicted: Array, models: NDArray[np.int64]) -> Array:
    """[n, T], of what is predicted for every model; features behind a chain's end are 0."""
    taken: Array = np.take_along_axis(predicted, models[..., None], 2)[..., 0]
    return taken
