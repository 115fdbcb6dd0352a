"""A budget instead of a price: the multiplier of the constrained problem, by dual ascent.

maximise P(correct) subject to E[cost] <= budget  (arXiv 2605.06116, arXiv 2511.11828)

PPO maximises ``correct - price * cost``; after every rollout the price moves with the measured
excess over the budget, in steps that decay as in the online conformal update (arXiv 2402.01139).
The policy chooses the large model where its score ``gain / cost`` reaches the price, so the
multiplier and the decision threshold are one number, and this is their joint update.

While it learns, a policy samples its actions and its weights move; it is served with its best weights and its
likeliest actions. `settle` finds the price at which that policy spends the budget.
"""

from __future__ import annotations

import math

from stable_baselines3.common.callbacks import BaseCallback

from envs.episode import MAX_PRICE
from envs.routing import Task
from envs.vector import RoutingVectorEnv
from policies.validation import Act, outcomes
from stepwise.errors import ConfigError

LEAST_PRICE = 1e-3
SETTLING = 12  # halvings of the range of ln(price): to a quarter of a percent


class DualAscent(BaseCallback):
    """Moves the price of new episodes towards the one at which the budget is spent.

    Its state lives in the model, so that a checkpoint has it.

    Args:
        env: whose ``task.price`` is set.
        budget: mean cost per episode to keep to, in units of large-only.
        rate: first step of ln(price) per unit of relative excess.
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
        price = self._env.task.price
        start = price if isinstance(price, float) else math.sqrt(price[0] * price[1])
        self.model.dual = getattr(self.model, "dual", None) or {"price": start, "count": 0}  # type: ignore[attr-defined]
        self._env.task.price = self.price

    @property
    def price(self) -> float:
        return float(self.model.dual["price"])  # type: ignore[attr-defined]

    def _on_step(self) -> bool:
        self._costs += [info["total_cost"] for info in self.locals["infos"] if "total_cost" in info]
        return True

    def _on_rollout_end(self) -> None:
        if not self._costs:
            return
        mean = math.fsum(self._costs) / len(self._costs)  # exact, so the order of arrival does not matter
        excess = mean / self._budget - 1.0
        count = int(self.model.dual["count"]) + 1  # type: ignore[attr-defined]
        price = self.price * math.exp(self._rate * count**-self._decay * excess)
        price = min(max(price, LEAST_PRICE), MAX_PRICE)
        self.model.dual = {"price": price, "count": count}  # type: ignore[attr-defined]
        self._env.task.price = price
        self.logger.record("episodes/price", price)
        self._costs.clear()


def settle(task: Task, act: Act, budget: float) -> float:
    """The price at which a policy that acts so spends ``budget`` per problem, by bisection.

    Args:
        task: its problems, and what one unit of cost is.
        act: the policy as it is served.
        budget: mean cost per problem in units of large-only.
    """
    low, high = math.log(LEAST_PRICE), math.log(MAX_PRICE)
    for _ in range(SETTLING):
        middle = (low + high) / 2
        _, cost = task.engine.run(outcomes(task.tree, task.problems, [math.exp(middle)], act))
        dear = float(cost.mean()) / task.cost_scale > budget
        low, high = (middle, high) if dear else (low, middle)
    return math.exp(high)
