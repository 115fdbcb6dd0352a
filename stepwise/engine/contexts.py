"""One model's side of a chain: what it would read next, and how much of that it has read before.

Token ids pass unchanged between models that share a tokenizer, because a round trip through text breaks
them up differently. Models that do not share one exchange text: a model keeps its own steps as it wrote
them and reads the others' step by step in tokens of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

from stepwise.engine.backend import Backend
from stepwise.engine.prefix import Prefix
from stepwise.errors import ConfigError
from stepwise.types import Step, Trace, common_prefix

REMEMBERED = 4_000
"""Characters: the tokens of longer questions are not kept."""


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


class Views:
    """A chain as each model of a pool sees it. Views are kept with the trace and grow with it.

    Args:
        backends: by model name.
        prompts: by model name, templates with ``{question}``.
        think_ends: for models that think first, the text that ends their thinking.
        judge: name of the model that gives verdicts, "" for none.

    Raises:
        ConfigError: if a template has no place for the question.
    """

    def __init__(
        self,
        backends: Mapping[str, Backend],
        *,
        prompts: Mapping[str, str],
        think_ends: Mapping[str, str],
        judge: str,
    ) -> None:
        for template in prompts.values():
            if "{question}" not in template:
                raise ConfigError(f"prompt must contain {{question}}, which {template!r} does not.")
        self._backends = backends
        self._prompts = prompts
        self._short = lru_cache(maxsize=4096)(partial(_asked, backends, prompts))
        self._think_ends = think_ends
        self._judge = judge

    def of(self, trace: Trace, model: str) -> View:
        """The model's view of the chain, built anew where the trace does not have it."""
        view: View | None = trace.views.get(model)
        if view is None or view.last is not (trace.steps[-1] if trace.steps else None):
            view = View(Prefix(self._prompt(model, trace.problem.question)))
            for step in trace.steps:
                view = self._after(view, model, step)
            trace.views[model] = view
        return view

    def after(self, trace: Trace, step: Step) -> dict[str, View]:
        """The views of a trace with ``step`` appended."""
        return {name: self._after(view, name, step) for name, view in trace.views.items()}

    def ids(self, step: Step, reader: str) -> tuple[int, ...]:
        """A step in the tokens of the model that reads it."""
        mark, own = self._think_ends.get(step.model, ""), self._think_ends.get(reader, "")
        marked = bool(mark) and mark != own
        if not marked and self._backends[step.model].tokenizer == self._backends[reader].tokenizer:
            return step.token_ids
        text = step.text.replace(mark, own) if marked else step.text
        return self._backends[reader].encode(text, first=False)

    def _prompt(self, model: str, question: str) -> tuple[int, ...]:
        """The prompt in the model's tokens. Sweeps and episodes ask the same questions again and again."""
        if len(question) > REMEMBERED:
            return _asked(self._backends, self._prompts, model, question)
        return self._short(model, question)

    def _after(self, view: View, model: str, step: Step) -> View:
        ids = self.ids(step, model)
        if model == self._judge:
            return view.judged(step, ids, self.ids(step.draft, model) if step.draft else ())
        return view.after(step, model, ids)


def _asked(
    backends: Mapping[str, Backend], prompts: Mapping[str, str], model: str, question: str
) -> tuple[int, ...]:
    return backends[model].encode(prompts[model].replace("{question}", question))
