"""One model's context: the chain as it would read it next, and how much of that it has read before.

Token ids pass unchanged between models that share a tokenizer, because a round trip through text breaks
them up differently. Models that do not share one exchange text: a model keeps its own steps as it wrote
them and reads the others' step by step in tokens of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from stepwise.engine.backend import Backend, converse
from stepwise.engine.conversation import before, opening, with_system, written_out
from stepwise.engine.prefix import Prefix
from stepwise.errors import ConfigError
from stepwise.types import Problem, Step, Trace, Turn, common_prefix

REMEMBERED = 4_000
"""Characters: the tokens of longer questions are not kept."""


@dataclass(frozen=True, slots=True)
class Context:
    """A chain as one model reads it.

    Attributes:
        prefix: the prompt and the steps in the model's tokens.
        seen: how many of these tokens the model has processed earlier in this chain. The last token
            of a generation has been sampled but not processed.
        last: the step that the prefix ends with.
        ahead: what it has processed beyond the prefix, all of which it has then seen: an overrun, as far as
            the chain has gone on like it.
    """

    prefix: Prefix
    seen: int = 0
    last: Step | None = None
    ahead: tuple[int, ...] = ()

    def after(self, step: Step, name: str, ids: Sequence[int]) -> Context:
        """The context of model ``name`` with ``step`` appended, which is ``ids`` in its tokens."""
        seen, ahead = self.seen, self.ahead
        if ahead:
            known = common_prefix(ahead, ids)
            seen, ahead = len(self.prefix) + known, ahead[known:] if known == len(ids) else ()
        if step.reading is not None and step.reading.model == name:
            seen = len(self.prefix) + len(ids)
        for mine in (step, step.draft):
            if mine is not None and mine.model == name:
                seen = max(seen, len(self.prefix) + common_prefix(mine.token_ids[:-1], ids))
                break
        return Context(self.prefix.extend(ids), seen, step, ahead)

    def having_sent(self, tokens: int) -> Context:
        """The same after a call that the model processed this many tokens for, and that wrote nothing."""
        return replace(self, seen=max(self.seen, min(tokens, len(self.prefix))))

    def having_written(self, ids: Sequence[int]) -> Context:
        """The same after the model wrote ``ids`` behind the prefix, which no step has taken yet."""
        return replace(self, seen=len(self.prefix), ahead=tuple(ids[:-1])) if ids else self

    def judged(self, step: Step, ids: Sequence[int], rejected: Sequence[int]) -> Context:
        """`after` for a judge, which reads what it gives a verdict on: ``rejected`` is the draft's ids."""
        seen = self.seen
        if step.verdict is not None:
            seen = len(self.prefix) + len(ids)
        elif step.draft is not None and step.draft.verdict is not None:
            seen = len(self.prefix) + common_prefix(rejected, ids)
        return Context(self.prefix.extend(ids), seen, step)


class Contexts:
    """A chain as each model of a pool reads it. Whoever grows a chain keeps its contexts, by model, and they
    grow with it.

    Args:
        backends: by model name.
        prompts: by model name, templates with ``{question}``.
        think_ends: for models that think first, the text that ends their thinking.
        judge: name of the model that gives verdicts, "" for none.
        system: what the system message of a conversation begins with; None where none are taken.
        preamble: whether what all prompts begin with is new to every chain.

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
        system: str | None = "",
        preamble: bool = True,
    ) -> None:
        for template in prompts.values():
            if "{question}" not in template:
                raise ConfigError(f"prompt must contain {{question}}, which {template!r} does not.")
        self._backends = backends
        self._prompts = prompts
        self._system = system
        self._preamble = preamble
        self._short = lru_cache(maxsize=4096)(self._rendered)
        self._before = lru_cache(maxsize=None)(self._opening)
        self._think_ends = think_ends
        self._judge = judge

    def of(self, trace: Trace, model: str, known: Mapping[str, Context]) -> Context:
        """The model's context of a chain, built anew where the ``known`` one is not of its last step."""
        context = known.get(model)
        if context is None or context.last is not (trace.steps[-1] if trace.steps else None):
            context = self._begun(model, trace.problem)
            for step in trace.steps:
                context = self._after(context, model, step)
        return context

    def after(self, step: Step, known: Mapping[str, Context]) -> dict[str, Context]:
        """The contexts of a chain with ``step`` appended."""
        return {name: self._after(context, name, step) for name, context in known.items()}

    def ids(self, step: Step, reader: str) -> tuple[int, ...]:
        """A step in the tokens of the model that reads it."""
        mark, own = self._think_ends.get(step.model, ""), self._think_ends.get(reader, "")
        marked = bool(mark) and mark != own
        if not marked and self._backends[step.model].tokenizer == self._backends[reader].tokenizer:
            return step.token_ids
        text = step.text.replace(mark, own) if marked else step.text
        return self._backends[reader].encode(text, first=False)

    def _begun(self, model: str, problem: Problem) -> Context:
        """Before the first step. Of a conversation the model may have read a part in earlier turns."""
        prompt = self._prompt(model, problem)
        earlier = before(problem, problem.read.get(model, 0))
        seen = common_prefix(prompt, self._prompt(model, earlier)) if earlier else self.shared(model, prompt)
        first = opening(problem)
        return Context(Prefix(prompt, self._prompt(model, first) if first else None), seen)

    def shared(self, model: str, prompt: Sequence[int]) -> int:
        """How many tokens of a prompt the chain is not charged for, because all prompts begin with them."""
        if self._preamble:
            return 0
        return common_prefix(prompt, self._before(model))

    def _opening(self, model: str) -> tuple[int, ...]:
        """What stands before the question, in the model's tokens."""
        return self._backends[model].encode(self._prompts[model].split("{question}")[0])

    def _prompt(self, model: str, problem: Problem) -> tuple[int, ...]:
        """The prompt in the model's tokens. Sweeps and episodes ask the same questions again and again."""
        if problem.form is not None:
            return tuple(map(ord, written_out(problem.form)))
        if len(problem.asked) + sum(len(turn.text) for turn in problem.turns) > REMEMBERED:
            return self._rendered(model, problem.asked, problem.turns)
        return self._short(model, problem.asked, problem.turns)

    def _rendered(self, model: str, question: str, turns: tuple[Turn, ...]) -> tuple[int, ...]:
        if not turns:
            return self._backends[model].encode(self._prompts[model].replace("{question}", question))
        if self._system is None:
            raise ConfigError(
                "the models were trained on bare questions and take no conversation: no system messages and "
                "no earlier turns"
            )
        try:
            return converse(
                self._backends[model], with_system(self._system, (*turns, Turn("user", question)))
            )
        except ConfigError as error:
            raise ConfigError(f"model {model!r} takes no such conversation: {error}") from error

    def _after(self, context: Context, model: str, step: Step) -> Context:
        ids = self.ids(step, model)
        if model == self._judge:
            return context.judged(step, ids, self.ids(step.draft, model) if step.draft else ())
        return context.after(step, model, ids)
