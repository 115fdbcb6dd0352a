"""Where a step ends and when a chain is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from stepwise.errors import ConfigError
from stepwise.types import Step, Stop

PERIODS = (1, 2, 3)
"""A chain repeats itself when its last steps are the same one, two or three again and again."""


@dataclass(frozen=True, slots=True)
class StepRule:
    """Cuts a chain of thought into steps.

    Attributes:
        separator: text that ends a step; it belongs to the step that it ends.
        max_step_tokens: a step that grows longer than this ends the chain.
        max_steps: a chain with this many steps ends.
        max_repeats: a chain that says the same this many times in a row ends. It only cuts short
            what `max_steps` would end, so it is not part of what identifies a rule.
        max_tokens: a chain with this many tokens ends; None for no limit of its own. It is a request's
            wish, and not part of what identifies a rule either.
    """

    separator: str = "\n"
    max_step_tokens: int = 128
    max_steps: int = 32
    max_repeats: int = field(default=4, repr=False)
    max_tokens: int | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.separator:
            raise ConfigError("separator must not be empty.")
        if self.max_step_tokens < 1 or self.max_steps < 1:
            raise ConfigError("max_step_tokens and max_steps must be at least 1.")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ConfigError(f"max_tokens must be at least 1, not {self.max_tokens}.")
        if self.max_repeats < 2:
            raise ConfigError(f"max_repeats must be at least 2, not {self.max_repeats}.")

    def room(self, steps: Sequence[Step]) -> int:
        """How many tokens the step after ``steps`` may have."""
        if self.max_tokens is None:
            return self.max_step_tokens
        if self.max_tokens is None:
            return self.max_step_tokens
        return min(self.max_step_tokens, self.left(steps))

    def left(self, steps: Sequence[Step]) -> int:
        """How many tokens the chain after ``steps`` may have, in all its steps together."""
        longest = self.max_step_tokens * self.max_steps
        return (longest if self.max_tokens is None else self.max_tokens) - sum(step.length for step in steps)

    def stop_after(self, step: Step, before: Sequence[Step]) -> Stop | None:
        """Why the chain ends with ``step``, which follows the steps ``before`` it, or None."""
        if step.finish == "end":
            return "answered"
        if step.finish == "length" or (self.max_tokens is not None and self.room([*before, step]) <= 0):
            return "max_tokens"
        if len(before) + 1 >= self.max_steps:
            return "max_steps"
        return "repeated" if self._repeats(step, before) else None

    def _repeats(self, step: Step, before: Sequence[Step]) -> bool:
        for period in PERIODS:
            if len(before) < period or before[-period].text != step.text:
                continue
            last = [*(s.text for s in before[-self.max_repeats * period + 1 :]), step.text]
            if len(last) == self.max_repeats * period and last[period:] == last[:-period]:
                return True
        return False
