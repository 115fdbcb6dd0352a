"""What both forms of the environment need to know to start an episode."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

import gymnasium
import numpy as np
from gymnasium import spaces

from envs.episode import MAX_COST_WEIGHT, Episode, Start
from envs.observer import DEFAULT_OBSERVER, Observer
from envs.tree import MAX_NODES, Tree
from stepwise.engine.engine import Engine
from stepwise.errors import ConfigError
from stepwise.types import Look, Problem, Trace

LOOKS: tuple[Look, ...] = get_args(Look)


EngineOrFactory = Engine | Callable[[], Engine]
"""An engine, or a function that makes one: what other processes can be given."""


def made(engine: EngineOrFactory) -> Engine:
    """The engine itself, or a new one."""
    return engine if isinstance(engine, Engine) else engine()


@dataclass
class Task:
    """What both forms of the environment need to know to start an episode.

    ``cost_weight`` may be changed while training; it holds for the episodes that start afterwards.

    Args:
        engine: with its models loaded; actions are indices into ``engine.models``.
        problems: each with a gold answer.
        look: when the agent decides: ``before``, ``probe``, ``after_draft``, ``judged`` or ``verified``.
        cost_weight: λ, the reward lost per unit of cost, in [0, 10], or (low, high): drawn log-uniformly per
            episode.
        cost_scale: cost of one unit, in the engine's unit; usually the mean cost of large-only.
        observer: what the agent sees and pays; `Observer.of` makes one from a list of features.
        patience_s: how long an episode waits for a model that cannot be run for now, before the failure is
            raised, in seconds; with 0 the episode is truncated at once.
        potential: Φ of a chain, such as a judge's verdict on its last step; ``Φ(after) - Φ(before)`` is added
            to the reward of a step, with Φ = 0 at the end, which leaves the best policy what it was (Ng,
            Harada and Russell 1999, theorem 1, with no discount).
        max_nodes: chains that are remembered, at 1 to 2 kB each; see `envs.tree.Tree`.
        verify: one action more, the last one, lets the most expensive model read the draft before the agent
            decides on it; with ``look="after_draft"``.

    Raises:
        ConfigError: if an argument is none of these, or a question cannot be asked.
    """

    engine: Engine
    problems: Sequence[Problem]
    look: Look = "after_draft"
    cost_weight: float | tuple[float, float] = 0.3
    cost_scale: float = 1.0
    observer: Observer = DEFAULT_OBSERVER
    patience_s: float = 0.0
    potential: Callable[[Trace], float] | None = None
    max_nodes: int = MAX_NODES
    verify: bool = False

    def __post_init__(self) -> None:
        for problem in self.problems:
            self.engine.start(problem)  # an unusable question is refused now, not in mid-training
        if not self.problems or any(not problem.answer for problem in self.problems):
            raise ConfigError("problems must not be empty, and each needs a gold answer.")
        if self.look not in LOOKS:
            raise ConfigError(f"look must be one of {', '.join(LOOKS)}, not {self.look!r}.")
        if self.verify and self.look != "after_draft":
            raise ConfigError(f"verify needs look='after_draft', not {self.look!r}.")
        given = self.cost_weight
        low, high = given if isinstance(given, tuple) else (given, given)
        if not (0.0 if low == high else 1e-6) <= low <= high <= MAX_COST_WEIGHT:
            raise ConfigError(
                f"cost_weight must lie in [0, {MAX_COST_WEIGHT:g}] (a range above 0), not {given}."
            )
        if not self.cost_scale > 0.0:
            raise ConfigError(f"cost_scale must be positive, not {self.cost_scale}.")

    @property
    def observation_space(self) -> spaces.Box:
        rest = self.actions + 1
        low = np.append(self.observer.low, np.zeros(rest))
        high = np.append(self.observer.high, np.ones(rest))
        return spaces.Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)

    @property
    def actions(self) -> int:
        """A model each, and reading the draft where that is one."""
        return len(self.engine.models) + self.verify

    @cached_property
    def action_space(self) -> spaces.Discrete[Any]:
        return spaces.Discrete(self.actions)

    def episode(self, random: np.random.Generator, options: dict[str, Any] | None = None) -> Episode:
        """A new episode; ``options`` may fix what `envs.episode.Start` has.

        Raises:
            ConfigError: if an option is unknown or out of range.
        """
        options = options or {}
        index = options.get("problem", int(random.integers(len(self.problems))))
        cost_weight = options["cost_weight"] if "cost_weight" in options else self._draw(random)
        self._check_options(options, index, cost_weight)
        return Episode(
            self.tree, self.problems[index], cost_weight=float(cost_weight), cost_scale=self.cost_scale,
            index=int(index), potential=self.potential,
        )  # fmt: skip

    def _check_options(self, options: Mapping[str, Any], index: Any, cost_weight: Any) -> None:
        for name in options:
            if name not in Start.__annotations__:
                raise ConfigError(f"options must be among {', '.join(Start.__annotations__)}, not {name!r}.")
        if not isinstance(index, int | np.integer) or not 0 <= index < len(self.problems):
            raise ConfigError(
                f"options: problem must be an index from 0 to {len(self.problems) - 1}, not {index!r}."
            )
        if not isinstance(cost_weight, int | float | np.number) or not 0 <= cost_weight <= MAX_COST_WEIGHT:
            raise ConfigError(
                f"options: cost_weight must lie in [0, {MAX_COST_WEIGHT:g}], not {cost_weight!r}."
            )

    def check_action(self, action: Any) -> int:
        """An action as an index.

        Raises:
            InvalidAction: (Gymnasium's) if it is none.
        """
        if not self.action_space.contains(action):
            raise gymnasium.error.InvalidAction(
                f"action must be an integer from 0 to {self.actions - 1}, not {action!r}."
            )
        return int(action)

    @cached_property
    def tree(self) -> Tree:
        """Shared by all episodes."""
        return Tree(
            self.engine, self.look, self.observer, self.patience_s, self.max_nodes, verify=self.verify
        )

    def _draw(self, random: np.random.Generator) -> float:
        """The cost weight of one episode."""
        if not isinstance(self.cost_weight, tuple):
            return self.cost_weight
        low, high = np.log(self.cost_weight)
        return float(np.exp(random.uniform(low, high)))
