"""Writing one step: a model continues a chain, and the chain's ledger is charged for everything it took."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import cast

from stepwise.engine import signals
from stepwise.engine.backend import Backend, Completion, Sampling, StreamingBackend
from stepwise.engine.boundaries import Boundaries, ends_answer
from stepwise.engine.chain import Chain
from stepwise.engine.contexts import Context, Contexts
from stepwise.engine.cost import CostModel
from stepwise.engine.judge import Judge
from stepwise.engine.ledger import Meter
from stepwise.engine.lookahead import Listener, Lookahead
from stepwise.engine.prefix import Prefix
from stepwise.engine.stop_rules import StepRule
from stepwise.errors import BackendError, ConfigError
from stepwise.types import Finish, Step, Verdict

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
        """The chain as the model reads it; the chain keeps it."""
        context = chain.contexts[model] = self.contexts.of(chain.trace, model, chain.contexts)
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
        ends = self.rule.boundaries(chain.trace.steps, tokens, begun)
        ids = begun.token_ids if begun else ()
        written = await self._call(chain, model, tokens, ends, ids, listen)
        for _ in range(BLANKS):  # a server told of blank lines stops at those before the text, too
            left = tokens - len(written.token_ids)
            if written.finish != "length" or left <= 0 or (ends.begun + written.text).strip():
                break
            behind = replace(ends, begun=ends.begun + written.text)
            rest = await self._call(chain, model, left, behind, ids + written.token_ids, listen)
            written = _joined(written, rest)
        usage = chain.ledger.step
        return Step(
            written.text, written.token_ids, model, usage, written.signals,
            self.cost(usage), self._ended(model, written),
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
        meter = self._meter(chain, model, len(prefix) - 1 if begun else context.seen)
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
        room = self.rule.room(chain.trace.steps) - len(draft.token_ids)
        if draft.finish != "length" or room <= 0:
            return draft
        if listen is not None:
            listen(draft.text)
        rest = await self.write(chain, draft.model, room, begun=draft, listen=listen)
        return replace(
            rest,
            text=draft.text + rest.text,
            token_ids=draft.token_ids + rest.token_ids,
            signals=signals.join(draft.signals, rest.signals),
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
        meter = self._meter(chain, judge.name, min(context.seen, len(prefix) - 1))
        with _naming(judge.name):
            completion = await judge.backend.generate(prefix, self.sampling.call(1, 0), meter.lost)
        meter.completed(completion.usage.rejected())
        verdict = Verdict(completion.text, math.exp(completion.signals.mean_logprob))
        usage = chain.ledger.step
        return replace(draft, usage=usage, cost=self.cost(usage), verdict=verdict)

    def settled(self, chain: Chain, step: Step) -> Step:
        """A step that is final, with all that was charged since the one before; a draft of another model that
        it replaces comes along, its text discarded."""
        draft = chain.trace.draft
        rejected = None
        if draft is not None and draft.model != step.model:
            wasted = {model: usage.rejected() for model, usage in draft.usage.items()}
            rejected = replace(draft, usage=wasted, cost=self.cost(wasted))
        usage = chain.ledger.settle(draft.usage if draft is not None and rejected is not None else None)
        return replace(step, usage=usage, cost=self.cost(usage), draft=rejected)

    def _meter(self, chain: Chain, model: str, seen: int) -> Meter:
        def sent(tokens: int) -> None:
            chain.contexts[model] = chain.contexts[model].having_sent(tokens)

        return Meter(chain.ledger, model, seen, sent)

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
