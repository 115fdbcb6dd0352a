"""Writing one step: a model continues a chain, and the chain's ledger is charged for everything it took."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import cast

from stepwise.engine import signals
from stepwise.engine.backend import (
    TEXT,
    Backend,
    Completion,
    Sampling,
    StreamingBackend,
    forms,
    reads,
    text_tokens,
    tokens_in,
)
from stepwise.engine.boundaries import Boundaries, ends_answer
from stepwise.engine.chain import Chain
from stepwise.engine.contexts import Context, Contexts
from stepwise.engine.cost import CostModel
from stepwise.engine.judge import Judge
from stepwise.engine.ledger import Meter
from stepwise.engine.lookahead import Listener, Lookahead
from stepwise.engine.prefix import Prefix
from stepwise.engine.stop_rules import StepRule
from stepwise.engine.whole import cut
from stepwise.errors import BackendError, ConfigError
from stepwise.types import Decision, Finish, Form, Reading, Signals, Step, Usage, Verdict

BLANKS = 8
"""Calls for the text of one step; a model that has only written blank lines until then is done."""


@dataclass(frozen=True, slots=True)
class StepWriter:
    """Lets the models of a pool write steps. The arguments are those of `stepwise.engine.engine.Engine`."""

    backends: Mapping[str, Backend]
    contexts: Contexts
    rule: StepRule
    cost: CostModel
    sampling: Sampling
    judge: Judge | None
    stops: Mapping[str, Collection[str]]
    lookahead: frozenset[str]

    def context(self, chain: Chain, model: str) -> Context:
        """The chain as the model reads it; the chain keeps it. Who has read the waiting draft has it all."""
        context = self.contexts.of(chain.trace, model, chain.contexts)
        reading = chain.trace.draft.reading if chain.trace.draft else None
        if reading is not None and reading.model == model:
            context = context.having_sent(len(context.prefix))
        chain.contexts[model] = context
        return context

    async def write(
        self,
        chain: Chain,
        model: str,
        tokens: int,
        begun: Step | None = None,
        listen: Listener | None = None,
    ) -> Step:
        """Let a model write a step, or at most ``tokens`` more of the one that has ``begun``.

        Raises:
            BackendError: if the model cannot be run.
        """
        chain.rest = ()
        ends = self.rule.boundaries(chain.tokens, tokens, begun)
        ids = begun.token_ids if begun else ()
        written = await self._call(chain, model, tokens, ends, ids, listen)
        for _ in range(BLANKS):  # a server told of blank lines stops at those before the text, too
            left = tokens - written.usage.completion
            if written.finish != "length" or left <= 0 or (ends.begun + written.text).strip():
                break
            behind = replace(ends, begun=ends.begun + written.text)
            rest = await self._call(chain, model, left, behind, ids + written.token_ids, listen)
            written = _joined(written, rest)
        return self._step(model, written, chain.ledger.step)

    async def write_whole(self, chain: Chain, model: str) -> Step:
        """The next step of an answer that the model writes to its end in one call.

        Raises:
            BackendError: if the model cannot be run.
        """
        if chain.rest and chain.rest[0].model == model:
            step, chain.rest = chain.rest[0], chain.rest[1:]
            return step
        backend, context = self.backends[model], self.context(chain, model)
        left = self.rule.left(chain.tokens)
        tokens = min(left, getattr(backend, "answer_tokens", left))
        sampling = replace(self.sampling.call(tokens, self._seed(model, context.prefix)), stop=())
        meter = self._meter(chain, model, len(context.prefix), context.seen)
        with _naming(model):
            answer = await backend.generate(context.prefix, sampling, meter.lost)
        first, *rest = cut(answer, self.rule.boundaries(chain.tokens, tokens), backend)
        usage = answer.usage
        if rest and answer.finish == "length" and tokens < left:
            # The chain goes on after the last whole step.
            usage = usage.discard(rest.pop().usage.completion)
        meter.completed(usage)
        chain.rest = tuple(self._step(model, part, {}, part.usage.completion) for part in rest)
        return self._step(model, first, chain.ledger.step, first.usage.completion)

    async def write_form(self, chain: Chain, model: str, form: Form) -> Step:
        """A turn of a given form: the whole answer, as JSON, in one call.

        Raises:
            BackendError: if the model cannot be run.
        """
        backend, context = self.backends[model], self.context(chain, model)
        if not forms(backend):
            raise BackendError(f"{model} cannot write a turn of a given form.", model=model)
        sampling = self.sampling.call(self.rule.left(chain.tokens), self._seed(model, context.prefix))
        sampling = replace(sampling, stop=(), form=form)
        meter = Meter(chain.ledger, model, backend.context, text_tokens(context.seen), lambda _: None)
        with _naming(model):
            completion = await backend.generate(context.prefix, sampling, meter.lost)
        meter.completed(completion.usage)
        if not completion.usage.estimated:
            chain.trace = replace(chain.trace, prompt_tokens=completion.usage.prompt)
        return self._step(model, completion, chain.ledger.step, completion.usage.completion)

    def writes_whole(self, chain: Chain, model: str) -> bool:
        """Whether a model that may write the whole chain had better do so in one call."""
        begun = chain.trace.draft is not None or (chain.trace.steps and not chain.rest)
        return not begun and getattr(self.backends[model], "answer_tokens", 0) > 0

    def _step(
        self, model: str, completion: Completion, usage: Mapping[str, Usage], counted: int | None = None
    ) -> Step:
        if counted is None and self.backends[model].tokenizer == TEXT:
            counted = completion.usage.completion
        return Step(
            completion.text, completion.token_ids, model, usage, completion.signals,
            self.cost(usage), self._ended(model, completion), counted=counted,
        )  # fmt: skip

    async def _call(
        self,
        chain: Chain,
        model: str,
        tokens: int,
        ends: Boundaries,
        begun: tuple[int, ...],
        listen: Listener | None,
    ) -> Completion:
        """One call of a model, or what its generation goes on to write; the chain is charged for it."""
        context = self.context(chain, model)
        prefix = context.prefix.extend(begun) if begun else context.prefix
        ahead = chain.lookahead
        if ahead is not None and not ahead.continues(model, len(prefix)):
            await chain.stop_lookahead()
            ahead = None
        meter = self._meter(chain, model, len(prefix), len(prefix) - 1 if begun else context.seen)
        with _naming(model):
            if ahead is None and model not in self.lookahead and not self._readable(model, listen):
                sampling = self.sampling.call(tokens, self._seed(model, prefix), ends)
                completion = await self.backends[model].generate(prefix, sampling, meter.lost)
            else:
                chain.lookahead = ahead or self._begin(model, prefix, tokens, ends, meter)
                completion = await chain.lookahead.step(tokens, ends, listen)
        meter.completed(completion.usage)
        if model not in self.lookahead:
            await chain.stop_lookahead()
        return completion

    async def finish(self, chain: Chain, draft: Step, listen: Listener | None) -> Step:
        """An accepted draft as a step: a probe is written to its end, a whole draft is taken as it is.

        Raises:
            BackendError: if the model cannot be run.
        """
        room = self.rule.room(chain.tokens) - draft.length
        if draft.finish != "length" or room <= 0 or chain.trace.problem.form is not None:
            return draft
        if listen is not None:
            listen(draft.text)
        rest = await self.write(chain, draft.model, room, begun=draft, listen=listen)
        return replace(
            rest,
            text=draft.text + rest.text,
            token_ids=draft.token_ids + rest.token_ids,
            signals=signals.join(draft.signals, rest.signals),
            counted=None if rest.counted is None else draft.length + rest.counted,
        )

    async def judged(self, chain: Chain, draft: Step) -> Step:
        """The draft with the judge's verdict, which the chain pays for.

        Raises:
            ConfigError: if there is no judge.
            BackendError: if it cannot be run.
        """
        judge = self.judge
        if judge is None:
            raise ConfigError("the router asks for a judge's verdict, and this pair has no judge.")
        context = self.context(chain, judge.name)
        suffix = judge.backend.encode(judge.suffix, first=False) if judge.suffix else ()
        prefix = context.prefix.extend((*self.contexts.ids(draft, judge.name), *suffix))
        meter = self._meter(chain, judge.name, len(prefix), min(context.seen, len(prefix) - 1))
        with _naming(judge.name):
            completion = await judge.backend.generate(prefix, self.sampling.call(1, 0), meter.lost)
        meter.completed(completion.usage.rejected())
        measured = completion.signals
        verdict = Verdict(completion.text, math.exp(measured.mean_logprob) if measured.known else None)
        usage = chain.ledger.step
        return replace(draft, usage=usage, cost=self.cost(usage), verdict=verdict)

    async def verified(self, chain: Chain, draft: Step, reader: str) -> Step:
        """The draft with what ``reader`` thinks of it, which the chain pays for. The reader's cache holds the
        chain from now on: a step of its own begins there.

        Raises:
            ConfigError: if its backend cannot read.
            BackendError: if it cannot be run.
        """
        backend = self.backends[reader]
        if not reads(backend):
            raise ConfigError(
                f"the router asks model {reader!r} to read drafts, and its backend does not tell how likely "
                "a text is; transformers, vllm and vllm-server do."
            )
        context, ids = self.context(chain, reader), self.contexts.ids(draft, reader)
        if not ids:
            return replace(draft, reading=Reading(reader, Signals()))
        prefix = context.prefix.extend(ids)
        meter = self._meter(chain, reader, len(prefix), context.seen)
        with _naming(reader):
            sampling = replace(self.sampling.call(1, 0), read=len(ids))
            completion = await backend.generate(prefix, sampling, meter.lost)
        meter.completed(completion.usage)
        usage = chain.ledger.step
        return replace(draft, usage=usage, cost=self.cost(usage), reading=Reading(reader, completion.signals))

    def settled(self, chain: Chain, step: Step, decision: Decision | None) -> Step:
        """A step that is final, with all that was charged since the one before; a draft of another model that
        it replaces comes along, its text discarded."""
        draft = chain.trace.draft
        rejected = None
        if draft is not None and draft.model != step.model:
            wasted = {model: usage.rejected() for model, usage in draft.usage.items()}
            rejected = replace(draft, usage=wasted, cost=self.cost(wasted))
        usage = chain.ledger.settle(draft.usage if draft is not None and rejected is not None else None)
        return replace(step, usage=usage, cost=self.cost(usage), draft=rejected, decision=decision)

    def _meter(self, chain: Chain, model: str, length: int, seen: int) -> Meter:
        def sent(tokens: int) -> None:
            chain.contexts[model] = chain.contexts[model].having_sent(tokens)

        backend = self.backends[model]
        return Meter(chain.ledger, model, tokens_in(backend, length), tokens_in(backend, seen), sent)

    def _readable(self, model: str, listen: Listener | None) -> bool:
        """Whether somebody listens, and can be told while the model writes."""
        return listen is not None and isinstance(self.backends[model], StreamingBackend)

    def _begin(self, model: str, prefix: Prefix, tokens: int, ends: Boundaries, meter: Meter) -> Lookahead:
        """A generation to read: of one step, or bounded only by the longest chain there may be."""
        backend = cast(StreamingBackend, self.backends[model])
        sampling = self.sampling.call(tokens, self._seed(model, prefix), ends)
        if model in self.lookahead:
            longest = self.rule.max_step_tokens * self.rule.max_steps
            sampling = replace(sampling, max_tokens=longest, stop=(), boundaries=None)
        return Lookahead(model, backend, prefix, sampling, meter)

    def _ended(self, model: str, completion: Completion) -> Finish:
        """How the step ended; a string that ends the model's answers ends this one."""
        return "end" if ends_answer(completion.text, self.stops.get(model, ())) else completion.finish

    def _seed(self, model: str, prefix: Prefix) -> int:
        if self.sampling.temperature == 0.0:
            return 0
        text = f"{self.sampling.seed} {model} ".encode() + prefix.digest()
        return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "little")


def _joined(first: Completion, rest: Completion) -> Completion:
    """Two pieces of a step that follow each other."""
    return replace(
        rest,
        text=first.text + rest.text,
        token_ids=first.token_ids + rest.token_ids,
        usage=first.usage + rest.usage,
        signals=signals.join(first.signals, rest.signals),
    )


@contextmanager
def _naming(model: str) -> Iterator[None]:
    """A failure says which model of the pool it was."""
    try:
        yield
    except BackendError as error:
        error.model = model
        raise
