"""Where a step ends and when a chain is over."""

from __future__ import annotations

from dataclasses import dataclass

from stepwise.errors import ConfigError
from stepwise.types import Finish, Stop


@dataclass(frozen=True, slots=True)
class StepRule:
    """Cuts a chain of thought into steps.

    Attributes:
        separator: text that ends a step; it belongs to the step that it ends.
        max_step_tokens: a step that grows longer than this ends the chain.
        max_steps: a chain with this many steps ends.
    """

    separator: str = "\n"
    max_step_tokens: int = 128
    max_steps: int = 32

    def __post_init__(self) -> None:
        if not self.separator:
            raise ConfigError("separator must not be empty.")
        if self.max_step_tokens < 1 or self.max_steps < 1:
            raise ConfigError("max_step_tokens and max_steps must be at least 1.")

    def stop_after(self, finish: Finish, steps: int) -> Stop | None:
        """Why the chain ends with its ``steps``-th step, whose generation ended like this, or None."""
        if finish == "end":
            return "answered"
        if finish == "length":
            return "max_tokens"
        return "max_steps" if steps >= self.max_steps else None
