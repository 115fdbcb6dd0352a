"""The warm start: the best rule at each cost weight, copied by actor and critic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from envs import RoutingVectorEnv
from envs.episode import cost_weight_feature
from policies.imitation import demonstrations, imitate
from policies.network import GainCostPolicy
from policies.reference import measure_reference
from policies.validation import greedy, outcomes
from stepwise.errors import ConfigError
from tests.worlds import engine, problem

PROBLEMS = [problem(a, b, c) for a in (1, 7) for b in (2, 8, 9) for c in (0, 3, 6)]


def world(look: Any = "after_draft") -> Any:
    models = engine()
    unit = models.run(measure_reference(models, PROBLEMS)).large_cost
    return RoutingVectorEnv(models, PROBLEMS, num_envs=2, look=look, cost_scale=unit)


def test_the_best_rule_calls_the_large_model_where_it_pays_and_nowhere_else() -> None:
    seen, actions, returns = demonstrations(world().task, len(PROBLEMS))
    weights = seen[:, -1]
    light, heavy = (
        torch.isclose(weights, torch.tensor(cost_weight_feature(weight), dtype=torch.float32))
        for weight in (0.05, 3.0)
    )
    unsure = seen[:, 0] < 0.5  # the small model is wrong there
    assert (actions[light & unsure] == 1).all() and (actions[light & ~unsure] == 0).all()
    assert actions[heavy].sum() <= actions[light].sum()
    assert returns[light].mean() > 0.9 and (returns <= 1.0).all()


def test_the_policy_does_what_the_rule_does_and_the_critic_knows_what_comes_of_it() -> None:
    env = world()
    torch.manual_seed(0)
    policy = GainCostPolicy(env.single_observation_space, env.single_action_space, lambda _: 1e-3, width=32)
    assert imitate(policy, env.task, problems=len(PROBLEMS), epochs=150, rate=0.01, seed=0) > 0.97
    task = env.task
    correct, cost = task.engine.run(outcomes(task.tree, PROBLEMS, [0.05, 3.0], greedy(policy)))
    assert correct[0].mean() == 1.0 and cost[1].mean() <= cost[0].mean() < task.cost_scale
    seen, _, returns = demonstrations(task, len(PROBLEMS))
    with torch.no_grad():
        values = policy.predict_values(seen)[:, 0]
    assert np.corrcoef(values, returns)[0, 1] > 0.6


def test_a_policy_that_sees_no_drafts_cannot_imitate() -> None:
    with pytest.raises(ConfigError, match="imitation: the policy must look at drafts"):
        demonstrations(world("before").task, 3)
