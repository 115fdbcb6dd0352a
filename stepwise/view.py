"""One model's side of a chain: what it would read next, and how much of that it has read before.

Token ids pass unchanged between models that share a tokenizer, because a round trip through text breaks
them up differently. Models that do not share one exchange text: a model keeps its own steps as it wrote
them and reads the others' step by step in tokens of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stepwise.backends.base import Backend
from stepwise.prefix import Prefix
from stepwise.types import Step, common_prefix


@dataclass(frozen=True, slots=True)
class View:
    """A chain as one model sees it.

    Attributes:
        prefix: the prompt and the steps in the model's tokens.
        seen: how many of these tokens the model has processed earlier in this chain. The last token
            of a generation has been sampled but not processed.
        last: the step that the prefix ends with.
    """

    prefix: Prefix
    seen: int = 0
    last: Step | None = None

    def after(self, step: Step, name: str, ids: Sequence[int]) -> View:
        """The view of model ``name`` with ``step`` appended, which is ``ids`` in its tokens."""
        seen = self.seen
        for mine in (step, step.draft):
            if mine is not None and mine.model == name:
                seen = len(self.prefix) + common_prefix(mine.token_ids[:-1], ids)
                break
        return View(self.prefix.extend(ids), seen, step)

    def judged(self, step: Step, ids: Sequence[int], rejected: Sequence[int]) -> View:
        """`after` for a judge, which reads what it gives a verdict on: ``rejected`` is the draft's ids."""
        seen = self.seen
        if step.verdict is not None:
            seen = len(self.prefix) + len(ids)
        elif step.draft is not None and step.draft.verdict is not None:
            seen = len(self.prefix) + common_prefix(rejected, ids)
        return View(self.prefix.extend(ids), seen, step)


def ids_of(step: Step, writer: Backend, reader: Backend) -> tuple[int, ...]:
    """A step in the reader's tokens."""
    if writer.tokenizer == reader.tokenizer:
        return step.token_ids
    return reader.encode(step.text, first=False)
