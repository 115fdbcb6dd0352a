"""The multiplier λ, found for a budget: where it is updated while a policy learns, and settled afterwards.

maximise P(correct) subject to E[cost] <= budget  (arXiv 2605.06116, arXiv 2511.11828)

λ is the cost weight: PPO maximises ``correct - λ * cost``. After every rollout `DualAscent.update` moves λ
with the measured excess over the budget, in steps that decay as in the online conformal update
(arXiv 2402.01139). The policy chooses the large model where its score ``gain / cost`` reaches λ, so the
multiplier and the decision threshold are one number, and this is their joint update.

While it learns, a policy samples its actions and its weights move; it is served with its best weights and its
likeliest actions. `settle` finds the λ at which that policy spends the budget.
"""

from __future__ import annotations

import math

from stable_baselines3.common.callbacks import BaseCallback

from envs.episode import MAX_COST_WEIGHT
from envs.task import Task
from envs.vector import RoutingVectorEnv
from policies.validation import Act, outcomes
from stepwise.errors import ConfigError

MIN_COST_WEIGHT = 1e-3
SETTLING = 12  # halvings of the range of ln(λ): to a quarter of a percent


class DualAscent(BaseCallback):
    """Moves the cost weight of new episodes toward the one at which the budget is spent.

    Its state lives in the model, so that a checkpoint has it.

    Args:
        env: whose ``task.cost_weight`` is set.
        budget: mean cost per episode to keep to, in units of large-only.
        rate: first step of ln(λ) per unit of relative excess.
        decay: steps shrink as count ** -decay.

    Raises:
        ConfigError: if the budget is not positive.
    """

    def __init__(self, env: RoutingVectorEnv, budget: float, rate: float = 1.0, decay: float = 0.6) -> None:
        super().__init__()
        if not budget > 0.0:
            raise ConfigError(f"budget must be above 0 (a fraction of large-only cost), not {budget:g}.")
        self._env, self._budget, self._rate, self._decay = env, budget, rate, decay
        self._costs: list[float] = []

    def _on_training_start(self) -> None:
        given = self._env.task.cost_weight
        start = math.sqrt(given[0] * given[1]) if isinstance(given, tuple) else given
        self.model.dual = getattr(self.model, "dual", None) or {"cost_weight": start, "count": 0}  # type: ignore[attr-defined]
        self._env.task.cost_weight = self.cost_weight

    @property
    def cost_weight(self) -> float:
        """λ as it stands."""
        return float(self.model.dual["cost_weight"])  # type: ignore[attr-defined]

    def _on_step(self) -> bool:
        self._costs += [info["total_cost"] for info in self.locals["infos"] if "total_cost" in info]
        return True

    def _on_rollout_end(self) -> None:
        if self._costs:
            # an exact sum, so the order of arrival does not matter
            self.update(math.fsum(self._costs) / len(self._costs))
            self._costs.clear()

    def update(self, mean_cost: float) -> None:
        """One step of dual ascent: ln λ += rate * count ** -decay * (mean_cost / budget - 1)."""
        count = int(self.model.dual["count"]) + 1  # type: ignore[attr-defined]
        excess = mean_cost / self._budget - 1.0
        cost_weight = self.cost_weight * math.exp(self._rate * count**-self._decay * excess)
        cost_weight = min(max(cost_weight, MIN_COST_WEIGHT), MAX_COST_WEIGHT)
        self.model.dual = {"cost_weight": cost_weight, "count": count}  # type: ignore[attr-defined]
        self._env.task.cost_weight = cost_weight
        self.logger.record("episodes/cost_weight", cost_weight)


def settle(task: Task, act: Act, budget: float) -> float:
    """The cost weight at which a policy that acts so spends ``budget`` per problem, by bisection.

    Args:
        task: its problems, and what one unit of cost is.
        act: the policy as it is served.
        budget: mean cost per problem in units of large-only.
    """
    low, high = math.log(MIN_COST_WEIGHT), math.log(MAX_COST_WEIGHT)
    for _ in range(SETTLING):
        middle = (low + high) / 2
        _, cost = task.engine.run(outcomes(task.tree, task.problems, [math.exp(middle)], act))
        overspent = float(cost.mean()) / task.cost_scale > budget
        low, high = (middle, high) if overspent else (low, middle)
    return math.exp(high)
