"""`stepwise/Routing-v0`: step through a chain of thought and choose who writes each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.episode import MAX_PRICE, Episode, Observation
from envs.tree import EVERYTHING, Tree, View
from stepwise.engine.engine import Engine
from stepwise.errors import ConfigError
from stepwise.types import Look, Problem

LOOKS: tuple[Look, ...] = get_args(Look)


@dataclass
class Task:
    """What both forms of the environment need to know to start an episode.

    ``price`` may be changed while training; it holds for the episodes that start afterwards.

    Args:
        engine: with its models loaded; actions are indices into ``engine.models``.
        problems: each with a gold answer.
        look: when the agent decides: ``before``, ``probe``, ``after_draft`` or ``judged``.
        price: reward lost per unit of cost, or (low, high): drawn log-uniformly per episode.
        cost_scale: cost of one unit, in the engine's unit; usually the mean cost of large-only.
        view: what the agent sees and pays.
    """

    engine: Engine
    problems: Sequence[Problem]
    look: Look = "after_draft"
    price: float | tuple[float, float] = 0.3
    cost_scale: float = 1.0
    view: View = EVERYTHING

    def __post_init__(self) -> None:
        for problem in self.problems:
            self.engine.start(problem)  # an unusable question is refused now, not in mid-training
        if not self.problems or any(not problem.answer for problem in self.problems):
            raise ConfigError("problems must not be empty, and each needs a gold answer.")
        if self.look not in LOOKS:
            raise ConfigError(f"look must be one of {', '.join(LOOKS)}, not {self.look!r}.")
        prices = self.price if isinstance(self.price, tuple) else (self.price, self.price)
        lowest = 0.0 if prices[0] == prices[1] else 1e-6
        if not lowest <= prices[0] <= prices[1] <= MAX_PRICE:
            raise ConfigError(f"price must lie in [0, {MAX_PRICE:g}] (a range above 0), not {self.price}.")
        if not self.cost_scale > 0.0:
            raise ConfigError(f"cost_scale must be positive, not {self.cost_scale}.")

    @property
    def observation_space(self) -> spaces.Box:
        rest = len(self.engine.models) + 1
        low, high = np.append(self.view.low, np.zeros(rest)), np.append(self.view.high, np.ones(rest))
        return spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)

    @property
    def action_space(self) -> spaces.Discrete[Any]:
        return spaces.Discrete(len(self.engine.models))

    def episode(self, random: np.random.Generator, options: dict[str, Any] | None = None) -> Episode:
        """A new episode; ``options`` may fix the "problem" (its index) and the "price"."""
        options = options or {}
        index = int(options.get("problem", random.integers(len(self.problems))))
        price = float(options["price"]) if "price" in options else self._price(random)
        return Episode(self.tree, self.problems[index], price=price, cost_scale=self.cost_scale)

    @cached_property
    def tree(self) -> Tree:
        """Shared by all episodes."""
        return Tree(self.engine, self.look, self.view)

    def _price(self, random: np.random.Generator) -> float:
        if not isinstance(self.price, tuple):
            return self.price
        low, high = np.log(self.price)
        return float(np.exp(random.uniform(low, high)))


class RoutingEnv(gymnasium.Env[Observation, Any]):
    """Choose which model writes the next step of a chain of thought.

    ## Action space
    ``Discrete(n)``: the index, cheapest first, of the model that writes the next step. With
    ``look="after_draft"`` action 0 accepts the draft of the cheapest model; any other action
    discards it, at its cost, and lets that model write the step.

    An action makes no sense where the chain has filled that model's context: taking it ends the chain.
    ``action_masks()`` and ``info["action_mask"]`` say which do (the form that sb3-contrib reads). Every other
    action does: all models of the pool are loaded, and a chain that hits a limit has ended.

    ## Observation space
    ``Box`` of float32: the features of the view (by default the fourteen numbers of
    `stepwise.routers.features`: signals of the draft, position, lengths, what was spent on reading, doubts
    so far), the action mask, one number a model, and the price of cost, as ``ln(1 + 10 price) / ln(101)``.

    ## Reward
    ``-price * cost`` at every step, where cost is everything that the models computed since the
    last action (prompts, drafts, discarded drafts) in units of ``cost_scale``, and 1 when the
    chain ends with the right answer. The undiscounted return is ``correct - price * total cost``,
    except for the first draft, which no action can avoid.

    ## Start
    A problem drawn uniformly; ``options={"problem": i, "price": p}`` fixes either.

    ## End
    *Terminated* when the chain ends by the rules of the process: the model closed its answer, or
    the chain hit its limit of steps, of tokens in a step, or of context. *Truncated* when a model
    failed, which says nothing about the state. The last ``info`` has ``trace``, ``correct`` and
    ``total_cost``; every ``info`` has the ``cost`` of the transition.

    ## Arguments
    Those of `Task`.

    ## Version
    v0: first version.
    """

    metadata = {"render_modes": ["ansi"]}  # noqa: RUF012 (Gymnasium's own attribute)

    def __init__(
        self,
        engine: Engine,
        problems: Sequence[Problem],
        look: Look = "after_draft",
        price: float | tuple[float, float] = 0.3,
        cost_scale: float = 1.0,
        render_mode: str | None = None,
    ) -> None:
        self.task = Task(engine, problems, look, price, cost_scale)
        self.observation_space: spaces.Space[Any] = self.task.observation_space
        self.action_space = self.task.action_space
        self.render_mode = render_mode
        self._episode: Episode | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        super().reset(seed=seed)
        self._episode = self.task.episode(self.np_random, options)
        first = self.task.engine.run(self._episode.begin())
        return first, {"action_mask": self.action_masks()}

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        if self._episode is None:
            raise gymnasium.error.ResetNeeded("call reset() before step().")
        result = self.task.engine.run(self._episode.act(int(action)))
        info = result.info | {"action_mask": self.action_masks()}
        return result.observation, result.reward, result.terminated, result.truncated, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Which actions make sense [models]."""
        if self._episode is None:
            raise gymnasium.error.ResetNeeded("call reset() before action_masks().")
        return self._episode.open.copy()

    def render(self) -> str:
        """The chain so far, one line per step with the model that wrote it."""
        steps = self._episode.trace.steps if self._episode else ()
        return "\n".join(f"[{step.model}] {step.text.rstrip()}" for step in steps)
