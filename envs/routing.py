"""`stepwise/Routing-v0`: step through a chain of thought and choose who writes each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.episode import Episode, Observation
from envs.observer import DEFAULT_OBSERVER, Observer
from envs.recorded import recorded_world
from envs.task import EngineOrFactory, Task, made
from stepwise.engine.engine import Engine
from stepwise.errors import ConfigError
from stepwise.routers.features import SIGNALS, table
from stepwise.types import Look, Problem, Trace


class RoutingEnv(gymnasium.Env[Observation, Any]):
    """Choose which model writes the next step of a chain of thought.

    ## Action space
    ``Discrete(n)``: the index, cheapest first, of the model that writes the next step. With
    ``look="after_draft"`` action 0 accepts the draft of the cheapest model; any other action
    discards it, at its cost, and lets that model write the step. With ``verify`` there is one action more,
    ``Discrete(n + 1)``: n lets the most expensive model read the draft, at the cost of reading it, and the
    agent acts again on the same draft, which cannot be read twice.

    An action makes no sense where that model's context leaves no room for another step (`Trace.full`), as a
    served policy sees it too: taking it may end the chain.
    ``action_masks()`` and ``info["action_mask"]`` say which do (the form that sb3-contrib reads). Every other
    action does: all models of the pool are loaded, and a chain that hits a limit has ended.

    ## Observation space
    ``Box`` of float32 [features + actions + 1]. By default, with n models:

    TABLE

    With another ``observer`` its features come first, then the same last two rows.

    ## Reward
    ``-λ * cost`` at every step, where cost is everything that the models computed since the
    last action (prompts, drafts, discarded drafts) in units of ``cost_scale``, and 1 when the
    chain ends with the right answer. The undiscounted return is ``correct - λ * total cost``,
    except for the first draft, which no action can avoid. A ``potential`` shapes it, see `Task`.

    ## Start
    A problem drawn uniformly; ``options={"problem": i, "cost_weight": λ}`` fixes either; others are refused.

    ## End
    *Terminated* when the chain ends by the rules of the process: the model closed its answer, or
    the chain hit its limit of steps, of tokens in a step, or of context. *Truncated* when a model
    failed, which says nothing about the state. The last ``info`` has ``trace``, ``correct`` and
    ``total_cost``; every ``info`` has the ``cost`` of the transition. Then ``step`` is refused until a reset.

    ## Arguments
    engine, problems, look, cost_weight, cost_scale, observer, potential, verify: those of `Task`; in place of
    the engine, a function without arguments that makes one. An environment made with such a function can be
    pickled and copied: what comes out is new and has not been reset. In place of engine, problems and
    cost_scale a ``recording`` gives all three without models (`envs.recorded`; ``split``: which of its
    problems). It holds no questions: an agent that reads them needs the ``problems`` of its data set.
    render_mode: "ansi" or None.

    ## Version
    v0: first version.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 4}  # noqa: RUF012 (Gymnasium's own attribute)

    def __init__(
        self,
        engine: EngineOrFactory | None = None,
        problems: Sequence[Problem] = (),
        look: Look = "after_draft",
        cost_weight: float | tuple[float, float] = 0.3,
        cost_scale: float = 1.0,
        observer: Observer = DEFAULT_OBSERVER,
        render_mode: str | None = None,
        potential: Callable[[Trace], float] | None = None,
        verify: bool = False,
        recording: str | None = None,
        split: str = "train",
    ) -> None:
        if render_mode not in (None, "ansi"):
            raise ConfigError(f"render_mode must be 'ansi' or None, not {render_mode!r}.")
        self._arguments = (
            engine, problems, look, cost_weight, cost_scale, observer, render_mode, potential, verify,
            recording, split,
        )  # fmt: skip
        if (engine is None) == (recording is None):
            raise ConfigError("give either an engine with problems, or a recording.")
        if engine is None:
            running, problems, cost_scale = recorded_world(str(recording), split, tuple(problems))
        else:
            running = made(engine)
        self.task = Task(
            running, problems, look, cost_weight, cost_scale, observer, potential=potential, verify=verify
        )
        self.observation_space: spaces.Space[Any] = self.task.observation_space
        self.action_space = self.task.action_space
        self.render_mode = render_mode
        self._episode: Episode | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode; see Start above.

        Raises:
            ConfigError: if an option is unknown or out of range.
        """
        super().reset(seed=seed)
        self._episode = self.task.episode(self.np_random, options)
        first = self.task.engine.run(self._episode.begin())
        return first, {"action_mask": self.action_masks()}

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Let the chosen model write a step.

        Raises:
            InvalidAction: (Gymnasium's) if the action is none.
            ResetNeeded: (Gymnasium's) before the first `reset`, and after the end of an episode.
        """
        if self._episode is None:
            raise gymnasium.error.ResetNeeded("call reset() before step().")
        if self._episode.ended:
            raise gymnasium.error.ResetNeeded("the episode has ended: call reset() before step().")
        result = self.task.engine.run(self._episode.act(self.task.check_action(action)))
        info = result.info | {"action_mask": self.action_masks()}
        return result.observation, result.reward, result.terminated, result.truncated, info

    @property
    def trace(self) -> Trace:
        """The chain so far, with the draft that waits for a decision: what an agent that reads text sees."""
        if self._episode is None:
            raise gymnasium.error.ResetNeeded("call reset() before reading the trace.")
        return self._episode.trace

    def action_masks(self) -> NDArray[np.bool_]:
        """Which actions make sense [actions]."""
        if self._episode is None:
            raise gymnasium.error.ResetNeeded("call reset() before action_masks().")
        return self._episode.open.copy()

    def __reduce__(self) -> tuple[type[RoutingEnv], tuple[Any, ...]]:
        if isinstance(self._arguments[0], Engine):
            raise ConfigError(
                "engine: models in memory cannot be copied; give a function that makes an engine."
            )
        return RoutingEnv, self._arguments

    def render(self) -> str | None:
        """The chain so far, one line per step with the model that wrote it; None without a render mode."""
        if self.render_mode is None:
            gymnasium.logger.warn('render() shows nothing without render_mode="ansi".')
            return None
        steps = self._episode.trace.steps if self._episode else ()
        return "\n".join(f"[{step.model}] {step.text.rstrip()}" for step in steps)


def _observation_table() -> str:
    """What the default observer sees, then what every observation ends with."""
    n = len(SIGNALS)
    ends = (
        (f"{n} .. {n - 1} + n", "action_mask", "[0, 1]", "1 for a model that can write the next step"),
        (f"{n} + n", "cost_weight", "[0, 1]", "ln(1 + 10 λ) / ln(101)"),
    )
    return table(SIGNALS, ends).replace("\n", "\n    ")


RoutingEnv.__doc__ = str(RoutingEnv.__doc__).replace("TABLE", _observation_table())
