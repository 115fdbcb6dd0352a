"""The thresholds at which a policy is worth calibrating: those that part what it sees.

They are chosen on the validation problems, before any calibration question is looked at. Calibration tests a
fixed list of thresholds, and its promise holds for any list that does not depend on the split it tests on.
"""

from __future__ import annotations

import numpy as np

from envs.task import Task
from policies.validation import COST_WEIGHTS, Act, walk
from stepwise.routers.artifact import Weights
from stepwise.routers.policy import gain_and_cost

LENGTH = 21


def thresholds(task: Task, act: Act, weights: Weights) -> list[float]:
    """At most `LENGTH` thresholds, ascending, with as many of a policy's decisions between any two.

    They lie at quantiles of gain per cost, one value a model beyond the cheapest, at the nodes that the
    policy comes through on its way along the whole frontier: each halfway from a value to the next lower one,
    so that no two of them say the same of all these nodes. One more at either end lies beyond all values:
    there every step is the large model's, and there none is.

    Args:
        task: its problems must not be those of the calibration.
        act: the policy as it is served.
        weights: of the same policy.
    """
    walks = task.engine.run(walk(task.tree, task.problems, COST_WEIGHTS, act))
    nodes = [node for walked in walks for node in walked.nodes[:-1]]
    if not nodes:  # no chain came as far as a decision
        return []
    worth = np.array([np.divide(*gain_and_cost(weights, node.features)) for node in nodes], float)
    values, levels = np.unique(worth), (np.arange(LENGTH - 2) + 0.5) / (LENGTH - 2)
    above = np.searchsorted(values, np.quantile(worth, levels, method="higher"))
    inner = [(values[i - 1] + values[i]) / 2 for i in above if i > 0]
    beyond = values[0] - 1.0, values[-1] + 1.0
    return sorted({float(f"{value:.6g}") for value in (*inner, *beyond)})
