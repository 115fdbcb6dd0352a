"""Writing one step: a model continues a chain, and the step carries everything that it took.

Accounting. A chain pays for every token that a model computed for it: prompts, drafts, probes,
rejected drafts. Prompt tokens count as cached only if the server had them cached *and* this very
chain had sent them before, so the cost of a chain does not depend on what else ran on the server.
(Backends that remember completions model the server's part: see `stepwise.store.backend`.)
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import cast

from stepwise.engine import signals
from stepwise.engine.backend import Backend, Completion, Sampling, StreamingBackend
from stepwise.engine.contexts import Views
from stepwise.engine.cost import CostModel
from stepwise.engine.judge import Judge
from stepwise.engine.lookahead import Listener, RunOn
from stepwise.engine.prefix import Prefix
from stepwise.engine.stop_rules import StepRule
from stepwise.errors import BackendError, ConfigError
from stepwise.types import Finish, Step, Trace, Usage, Verdict, add_usage


@dataclass(frozen=True, slots=True)
class Writer:
    """Lets the models of a pool write steps. The arguments are those of `stepwise.engine.engine.Engine`.

    A generation that may go on behind the step it began with comes back beside it; the next call
    takes it from the trace (``trace.live``).
    """

    backends: Mapping[str, Backend]
    views: Views
    rule: StepRule
    cost: CostModel
    sampling: Sampling
    judge: Judge | None
    stops: Mapping[str, Collection[str]]
    running_on: frozenset[str]

    async def write(
        self,
        trace: Trace,
        model: str,
        tokens: int,
        begun: tuple[int, ...] = (),
        listen: Listener | None = None,
    ) -> tuple[Step, RunOn | None]:
        """Let a model continue the chain and the ``begun`` tokens of its next step; and what runs on.

        Raises:
            BackendError: if the model cannot be run.
        """
        view = self.views.of(trace, model)
        prefix = view.prefix.extend(begun) if begun else view.prefix
        live: RunOn | None = trace.live
        overrun: dict[str, Usage] | None = None
        if live is not None and not live.continues(model, len(prefix)):
            overrun, live = {live.model: await live.stop()}, None
        seen = len(prefix) - 1 if begun else view.seen
        try:
            if live is None and model not in self.running_on and not self._readable(model, listen):
                sampling = self.sampling.call(tokens, self._seed(model, prefix))
                completion = await self.backends[model].generate(prefix, sampling)
            else:
                live = live or self._begin(model, prefix, tokens)
                completion = await live.step(tokens, listen)
        except BackendError as error:
            error.model = model
            if live is not None and live is not trace.live:
                error.usage = {model: (await live.stop()).known(seen)}
            raise
        usage = {model: completion.usage.known(seen)}
        if live is not None and model not in self.running_on:
            usage, live = add_usage(usage, {model: await live.stop()}), None
        if overrun is not None:
            usage = add_usage(overrun, usage)
        step = Step(
            completion.text, completion.token_ids, model, usage, completion.signals,
            self.cost(usage), self._ended(model, completion),
        )  # fmt: skip
        return step, live

    async def finish(self, trace: Trace, draft: Step, listen: Listener | None) -> tuple[Step, RunOn | None]:
        """An accepted draft as a step: a probe is written to its end, a whole draft is taken as it is.

        Raises:
            BackendError: if the model cannot be run.
        """
        room = self.rule.room(trace.steps) - len(draft.token_ids)
        if draft.finish != "length" or room <= 0:
            return draft, trace.live
        if listen is not None:
            listen(draft.text)
        rest, live = await self.write(trace, draft.model, room, begun=draft.token_ids, listen=listen)
        step = replace(
            rest,
            text=draft.text + rest.text,
            token_ids=draft.token_ids + rest.token_ids,
            usage=add_usage(draft.usage, rest.usage),
            signals=signals.join(draft.signals, rest.signals),
            cost=draft.cost + rest.cost,
        )
        return step, live

    async def judged(self, trace: Trace, draft: Step) -> Step:
        """The draft with the judge's verdict, which it pays for.

        Raises:
            ConfigError: if there is no judge.
            BackendError: if it cannot be run.
        """
        judge = self.judge
        if judge is None:
            raise ConfigError("the router asks for a judge's verdict, and this pair has no judge.")
        view = self.views.of(trace, judge.name)
        suffix = judge.backend.encode(judge.suffix, first=False) if judge.suffix else ()
        prefix = view.prefix.extend((*self.views.ids(draft, judge.name), *suffix))
        try:
            completion = await judge.backend.generate(prefix, self.sampling.call(1, 0))
        except BackendError as error:
            error.model = judge.name
            raise
        usage = completion.usage.known(min(view.seen, len(prefix) - 1)).rejected()
        return replace(
            self.charge(draft, judge.name, usage),
            verdict=Verdict(completion.text, math.exp(completion.signals.mean_logprob)),
        )

    def instead(self, draft: Step, step: Step) -> Step:
        """The step that replaces a rejected draft; it carries the draft and its cost."""
        wasted = {model: usage.rejected() for model, usage in draft.usage.items()}
        rejected = replace(draft, usage=wasted, cost=self.cost(wasted))
        return replace(
            step, usage=add_usage(wasted, step.usage), cost=rejected.cost + step.cost, draft=rejected
        )

    def charge(self, step: Step, model: str, usage: Usage) -> Step:
        """The step with more tokens to pay for."""
        more = {model: usage}
        return replace(step, usage=add_usage(step.usage, more), cost=step.cost + self.cost(more))

    def charge_beside(self, trace: Trace, *parts: Mapping[str, Usage]) -> Trace:
        """The chain with more tokens to pay for that belong to none of its steps."""
        more = add_usage(*parts)
        cost = trace.extra_cost + self.cost(more)
        return replace(trace, extra=add_usage(trace.extra, more), extra_cost=cost)

    def _readable(self, model: str, listen: Listener | None) -> bool:
        """Whether somebody listens, and can be told while the model writes."""
        return listen is not None and isinstance(self.backends[model], StreamingBackend)

    def _begin(self, model: str, prefix: Prefix, tokens: int) -> RunOn:
        """A generation to read: of one step, or bounded only by the longest chain there may be."""
        backend = cast(StreamingBackend, self.backends[model])
        sampling = self.sampling.call(tokens, self._seed(model, prefix))
        if model in self.running_on:
            longest = self.rule.max_step_tokens * self.rule.max_steps
            sampling = replace(sampling, max_tokens=longest, stop=())
        return RunOn(model, backend, prefix, sampling, self.rule.separator)

    def _ended(self, model: str, completion: Completion) -> Finish:
        """How the step ended; a string that ends the model's answers ends this one."""
        said = any(text in completion.text for text in self.stops.get(model, ()))
        return "end" if said else completion.finish

    def _seed(self, model: str, prefix: Prefix) -> int:
        if self.sampling.temperature == 0.0:
            return 0
        text = f"{self.sampling.seed} {model} ".encode() + prefix.digest()
        return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "little")
