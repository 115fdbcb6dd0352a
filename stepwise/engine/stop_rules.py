"""Where a step ends and when a chain is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from stepwise.engine.boundaries import Boundaries
from stepwise.errors import ConfigError
from stepwise.types import Step, Stop

PERIODS = (1, 2, 3)
"""A chain repeats itself when its last steps are the same one, two or three again and again."""
LOOP = 200
"""Characters that a chain says again before it counts as a loop. Equal rows of a table, closing lines and the
like are short and few; a model in a loop goes on, and gets there."""
CERTAIN = 4
"""Times ``max_repeats``: a loop, however short what is repeated."""


@dataclass(frozen=True, slots=True)
class StepRule:
    """Cuts a chain of thought into steps.

    Attributes:
        separator: text that ends a step; it belongs to the step that it ends. What counts as one is said in
            `stepwise.engine.boundaries`.
        max_step_tokens: a step that grows longer than this ends there, with its last line if it has several.
        max_steps: a chain with this many steps ends.
        max_repeats: a chain that says the same this many times in a row ends, if it says `LOOP` characters
            again, or does so `CERTAIN` times as often. It only cuts short what `max_steps` would end, so it
            is not part of what identifies a rule.
        max_tokens: a chain with this many tokens ends, within a step if need be. None for no limit but the
            one that follows: ``max_steps`` steps of ``max_step_tokens``.
        sentences_after: characters from which on a step also ends with a line or a sentence, for models that
            write no separator; None for never.
    """

    separator: str = "\n"
    max_step_tokens: int = 128
    max_steps: int = 32
    max_repeats: int = field(default=4, repr=False)
    max_tokens: int | None = field(default=None, repr=False)
    sentences_after: int | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.separator:
            raise ConfigError("separator must not be empty.")
        if self.max_step_tokens < 1 or self.max_steps < 1:
            raise ConfigError("max_step_tokens and max_steps must be at least 1.")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ConfigError(f"max_tokens must be at least 1, not {self.max_tokens}.")
        if self.sentences_after is not None and self.sentences_after < 1:
            raise ConfigError(f"sentences_after must be at least 1, not {self.sentences_after}.")
        if self.max_repeats < 2:
            raise ConfigError(f"max_repeats must be at least 2, not {self.max_repeats}.")

    def boundaries(self, written: int, tokens: int, begun: Step | None = None) -> Boundaries:
        """Where the step after ``written`` tokens ends, of which there is ``begun``. That ``tokens`` may
        follow is a boundary if the step's limit sets it, and not a probe or the chain's limit."""
        whole = tokens + (begun.length if begun else 0) >= self.max_step_tokens
        last = self.max_tokens is not None and self.left(written) <= self.max_step_tokens
        text = begun.text if begun else ""
        return Boundaries((self.separator,), self.sentences_after, whole and not last, text)

    def room(self, written: int) -> int:
        """How many tokens the step after ``written`` tokens may have."""
        if self.max_tokens is None:
            return self.max_step_tokens
        return min(self.max_step_tokens, self.left(written))

    def left(self, written: int) -> int:
        """How many tokens may follow ``written`` ones, in all further steps together."""
        longest = self.max_step_tokens * self.max_steps
        return (longest if self.max_tokens is None else self.max_tokens) - written

    def stop_after(self, step: Step, before: Sequence[Step], written: int) -> Stop | None:
        """Why the chain ends with ``step``, which follows the steps ``before`` it with ``written`` tokens, or
        None."""
        if step.finish == "end":
            return "answered"
        if step.finish == "length" or (self.max_tokens is not None and self.left(written + step.length) <= 0):
            return "max_tokens"
        if len(before) + 1 >= self.max_steps:
            return "max_steps"
        return "repeated" if self._repeats(step, before) else None

    def _repeats(self, step: Step, before: Sequence[Step]) -> bool:
        for period in PERIODS:
            if len(before) < period or before[-period].text != step.text:
                continue
            times, characters = _said([*(s.text for s in before), step.text], period)
            again = (times - 1) * characters
            if times >= self.max_repeats and (again >= LOOP or times >= CERTAIN * self.max_repeats):
                return True
        return False


def _said(texts: Sequence[str], period: int) -> tuple[int, int]:
    """How many times in a row the last ``period`` texts are said, and their length in characters."""
    last, times = texts[-period:], 1
    while texts[-(times + 1) * period : -times * period] == last:
        times += 1
    return times, sum(map(len, last))
