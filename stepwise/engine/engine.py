"""The engine: the only code that grows a chain of thought.

`Engine.advance` is the one transition. Solving, the Gymnasium environment, training, calibration,
evaluation and serving all go through it, so what is trained is what is served. The engine knows
nothing of routers' internals, stores, HTTP or configuration files.

`stepwise.engine.step_writer` writes a step; `stepwise.engine.ledger` counts what it takes.

With ``lookahead`` a model that can be read while it writes goes on past the end of a step until another
model takes over (`stepwise.engine.lookahead`); its overrun is charged as discarded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Coroutine, Iterable, Mapping
from contextlib import suppress
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar, cast

from stepwise.engine.alone import usage_alone
from stepwise.engine.backend import (
    Backend,
    Sampling,
    StreamingBackend,
    forms,
    reachable,
    restarting,
    text_tokens,
    tokens_in,
)
from stepwise.engine.chain import Chain
from stepwise.engine.concurrency import as_they_finish, run
from stepwise.engine.contexts import Contexts
from stepwise.engine.cost import CostModel
from stepwise.engine.forms import flaw, spoken
from stepwise.engine.judge import Judge
from stepwise.engine.lookahead import Listener
from stepwise.engine.solution import Solution
from stepwise.engine.step_writer import StepWriter
from stepwise.engine.stop_rules import StepRule
from stepwise.errors import BackendError, ConfigError, ContextOverflow, RouterError, StepwiseError
from stepwise.types import (
    Decision,
    Look,
    Prior,
    Problem,
    Router,
    Step,
    Stop,
    Trace,
    Usage,
)
from stepwise.verify.extract import extract_answer

T = TypeVar("T")
MAX_QUESTION = 100_000
"""Characters. Longer questions are refused before anything is tokenised."""
POLL_S = 0.1
"""Seconds between two looks for a server that may be back."""


def check_question(question: str) -> None:
    """What can be said of a question without a model.

    Raises:
        ConfigError: if it is empty or longer than `MAX_QUESTION`.
    """
    if not question.strip():
        raise ConfigError("question must not be empty.")
    if len(question) > MAX_QUESTION:
        raise ConfigError(f"question is too long: {len(question)} characters, at most {MAX_QUESTION}.")


class Engine:
    """Grows chains of thought with a pool of models.

    Args:
        backends: by model name, cheapest first. The first one writes drafts and probes.
        prompt: template with ``{question}``.
        prompts: templates of models that need one of their own.
        rule: where steps end.
        cost: prices measured usage.
        temperature: 0 is greedy.
        top_p: nucleus mass, in (0, 1].
        seed: together with the model and the prefix it determines every sampled step.
        judge: for routers that look at a draft with a verdict.
        think_ends: for models that think first, the text that ends their thinking. Read by another
            model it becomes that model's own, or nothing.
        stops: by model, strings that end its answer with the step that contains one
            (`stepwise.engine.boundaries.ends_answer`).
        lookahead: names of models that write on past the end of a step; their backends must be streaming.
        failover: when a model cannot be run, let another one of the pool write the step.
        system: what the system message of a conversation begins with; None where the models take none.
        preamble: charge every chain for reading what all prompts begin with; if not, what the server has
            cached of it is not charged.
        prior: what to expect of the models on a question (`stepwise.scope.routers.ScopePrior`), for routers
            that read it; asked while the first look is under way, so that the estimate takes no time of its
            own where a draft is written. The cost model must know the models that it asks.
    """

    def __init__(
        self,
        backends: Mapping[str, Backend],
        *,
        prompt: str,
        rule: StepRule,
        cost: CostModel,
        prompts: Mapping[str, str] | None = None,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        judge: Judge | None = None,
        think_ends: Mapping[str, str] | None = None,
        stops: Mapping[str, Collection[str]] | None = None,
        lookahead: Collection[str] = (),
        failover: bool = False,
        system: str | None = "",
        preamble: bool = True,
        prior: Prior | None = None,
    ) -> None:
        if not backends:
            raise ConfigError("backends: an engine needs at least one model.")
        self.models = tuple(backends)
        every = {**backends, judge.name: judge.backend} if judge else dict(backends)
        self.failover = failover
        self.think_ends: Mapping[str, str] = think_ends or {}
        self._contexts = Contexts(
            every,
            prompts=dict.fromkeys(every, prompt) | dict(prompts or {}),
            think_ends=self.think_ends,
            judge=judge.name if judge else "",
            system=system,
            preamble=preamble,
        )
        for name in lookahead:
            if not isinstance(every.get(name), StreamingBackend):
                raise ConfigError(f"lookahead: model {name!r} cannot be read while it writes.")
        strings = rule.boundaries(0, rule.max_step_tokens).strings
        sampling = Sampling(rule.max_step_tokens, temperature, top_p, seed, strings)
        self._writer = StepWriter(
            every, self._contexts, rule, cost, sampling, judge, dict(stops or {}), frozenset(lookahead)
        )
        self.prior = self._priced(prior)

    def with_sampling(
        self,
        *,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        max_tokens: int | None = None,
    ) -> Engine:
        """This engine, over the same models, with other sampling for one request.

        Args:
            temperature: as of the engine unless given, and so are ``top_p`` and ``seed``.
            max_tokens: of the chain, at most the rule's; the last step is cut off there.

        Raises:
            ConfigError: if ``max_tokens`` is less than 1.
        """
        usual, other = self._writer.sampling, copy(self)
        sampling = replace(
            usual,
            temperature=usual.temperature if temperature is None else temperature,
            top_p=usual.top_p if top_p is None else top_p,
            seed=usual.seed if seed is None else seed,
        )
        limits = [limit for limit in (max_tokens, self.rule.max_tokens) if limit is not None]
        rule = replace(self.rule, max_tokens=min(limits, default=None))
        other._writer = replace(self._writer, sampling=sampling, rule=rule)
        return other

    def with_prior(self, prior: Prior | None) -> Engine:
        """This engine, over the same models, asking ``prior`` what to expect of them.

        Raises:
            ConfigError: if the prior asks a model that has no price.
        """
        other = copy(self)
        other.prior = self._priced(prior)
        return other

    def _priced(self, prior: Prior | None) -> Prior | None:
        self.cost(dict.fromkeys(prior.asks if prior else (), Usage()))  # refuses a model without a price
        return prior

    @property
    def backends(self) -> dict[str, Backend]:
        """By name, the judge's too."""
        return cast(dict[str, Backend], self._writer.backends)

    @property
    def judge(self) -> Judge | None:
        """Grades drafts; None without one."""
        return self._writer.judge

    @property
    def rule(self) -> StepRule:
        """Where steps and chains end."""
        return self._writer.rule

    @property
    def cost(self) -> CostModel:
        """From usage to cost; ``cost.unit`` names the unit."""
        return self._writer.cost

    @property
    def seed(self) -> int:
        """Of sampling."""
        return self._writer.sampling.seed

    # Growing a chain

    def start(self, problem: Problem | str) -> Chain:
        """An empty chain for a question.

        Raises:
            ConfigError: if the question is empty or does not fit the smallest context window.
        """
        if isinstance(problem, str):
            problem = Problem("question", problem)
        check_question(problem.asked)
        chain = Chain(Trace(problem))
        room = min(backend.context for backend in self.backends.values()) - self.rule.max_step_tokens
        size = self._read(chain)
        if size > room:
            raise ConfigError(
                f"question is too long: {size} tokens, where the models' context leaves room for "
                f"{max(room, 0)}; shorten it or use models with a longer context."
            )
        chain.trace = replace(chain.trace, prompt_tokens=size)
        return chain

    def _read(self, chain: Chain) -> int:
        """Let the models read the prompt: its length in the cheapest one's tokens."""
        problem, cheapest = chain.trace.problem, self.models[0]
        if problem.form is not None and not self._able:
            raise ConfigError(
                "tools and response formats need a model behind a chat endpoint (backend chat, vllm-server "
                f"or llama-server), and none of {', '.join(self.models)} is; leave them out"
            )
        for model in self.models if problem.turns else (cheapest,):  # each has to take a conversation
            self._writer.context(chain, model)
        ids = len(chain.contexts[cheapest].prefix)
        return tokens_in(self.backends[cheapest], ids) if problem.form is None else text_tokens(ids)

    @property
    def _able(self) -> list[str]:
        """The models that can write a turn of a given form."""
        return [name for name in self.models if forms(self.backends[name])]

    async def fitted(self, chain: Chain, decision: Decision, *, fixed: bool) -> Decision:
        """Who writes a turn of a given form: the model that was chosen, if it can, and the last one that can
        where what the chosen one wrote does not fit. One that is ``fixed`` is not replaced.

        Raises:
            ConfigError: if it is, and cannot.
            BackendError: if the model cannot be run.
        """
        form, able, draft = chain.trace.problem.form, self._able, chain.trace.draft
        if form is None:
            return decision
        if decision.model not in able:
            if fixed:
                raise ConfigError(f"model {decision.model!r} takes neither tools nor response formats.")
            decision = replace(decision, model=able[-1])
        if fixed or decision.model == able[-1] or (draft is not None and draft.model != decision.model):
            return decision
        if draft is None:
            await self.draft(chain, decision.model)
        written = chain.trace.draft
        wrong = await asyncio.to_thread(flaw, form, written.text) if written else ""
        return replace(decision, model=able[-1], reason=f"{decision.model}: {wrong}") if wrong else decision

    async def draft(self, chain: Chain, model: str, *, tokens: int | None = None) -> None:
        """Let ``model`` write a step that waits for a verdict; ``tokens=1`` is a probe.

        Raises:
            BackendError: if the model cannot be run.
        """
        if (form := chain.trace.problem.form) is not None:
            step = await self._writer.write_form(chain, model, form)
        else:
            step = await self._writer.write(chain, model, tokens or self.rule.room(chain.tokens))
        chain.trace = replace(chain.trace, draft=step)

    async def advance(
        self,
        chain: Chain,
        model: str,
        decision: Decision | None = None,
        listen: Listener | None = None,
        *,
        whole: bool = False,
    ) -> Step:
        """Append one step written by ``model``: the one transition of the system.

        A waiting draft of the same model becomes the step; a probe is written to its end first.
        A draft of another model is discarded, and what it took is charged to the new step.

        Args:
            listen: called with the step's text while it is generated, where the backend can be read.
            whole: the model will write the rest too: where a step would cost a call, it writes all in one.

        Raises:
            ConfigError: if the model is not in the pool or the chain has ended.
            BackendError: if the model cannot be run.
        """
        trace = chain.trace
        if model not in self.models:
            raise ConfigError(f"model must be one of {', '.join(self.models)}, not {model!r}.")
        if trace.stop is not None:
            raise ConfigError(f"the chain of problem {trace.problem.id!r} has already ended ({trace.stop}).")
        if trace.draft is not None and trace.draft.model == model:
            step = await self._writer.finish(chain, trace.draft, listen)
        elif trace.problem.form is not None:
            step = await self._writer.write_form(chain, model, trace.problem.form)
        elif whole and self._writer.writes_whole(chain, model):
            step = await self._writer.write_whole(chain, model)
        else:
            step = await self._writer.write(chain, model, self.rule.room(chain.tokens), listen=listen)
        stop = self.rule.stop_after(step, trace.steps, chain.tokens)
        if stop is not None:
            await chain.stop_lookahead()
        step = self._writer.settled(chain, step, decision)
        chain.contexts = self._contexts.after(step, chain.contexts)
        chain.trace = _ended(replace(chain.trace, steps=(*trace.steps, step), draft=None), stop)
        chain.count(step)
        return step

    async def look(self, chain: Chain, look: Look, *, expects: bool = False) -> None:
        """Put into the trace what a router wants to see before it decides: also who has no room to go on, and
        the prior's estimates, where it ``expects`` them.

        Raises:
            ConfigError: if it wants a verdict and the engine has no judge.
            BackendError: if a model cannot be run.
        """
        if not expects or self.prior is None or chain.trace.estimates:
            await self._look(chain, look)
            return
        asked = asyncio.ensure_future(
            asyncio.to_thread(self.prior, chain.trace.problem.question, chain.ledger.charge_beside)
        )
        try:
            await self._look(chain, look)
            chain.trace = replace(chain.trace, estimates=await asyncio.shield(asked))
        finally:  # a thread cannot be cancelled: what it asks for will be paid for
            if not asked.done():
                await asyncio.wait({asked})
            self._account(chain)
            with suppress(BaseException):
                asked.exception()  # has been raised, or gives way to the draft's failure

    async def _look(self, chain: Chain, look: Look) -> None:
        if look != "before" and chain.trace.draft is None:
            drafts = self.models if chain.trace.problem.form is None else self._able
            await self.draft(chain, drafts[0], tokens=1 if look == "probe" else None)
        draft = chain.trace.draft
        if look == "judged" and draft is not None and draft.verdict is None:
            chain.trace = replace(chain.trace, draft=await self._writer.judged(chain, draft))
        if look == "verified" and draft is not None and draft.reading is None:
            reader = self.models[-1]
            chain.trace = replace(chain.trace, draft=await self._writer.verified(chain, draft, reader))
        full = self._full(chain)
        if full != chain.trace.full:
            chain.trace = replace(chain.trace, full=full)

    def _full(self, chain: Chain) -> tuple[str, ...]:
        """Models without room for a step as long as the longest so far, counted in the tokens of the writers;
        none where nobody has room. The writer of a waiting draft has written already."""
        draft = chain.trace.draft
        longest = max(chain.longest, draft.length if draft else 0, 1)
        needed = chain.trace.prompt_tokens + chain.tokens + longest
        writer = draft.model if draft else ""
        full = tuple(name for name in self.models if self.backends[name].context < needed and name != writer)
        return full if len(full) < len(self.models) else ()

    async def abandon(self, chain: Chain) -> None:
        """The chain goes no further: stop what runs behind it, and charge what belongs to no step."""
        try:
            await chain.stop_lookahead()
        finally:
            chain.ledger.close()
            chain.trace = replace(chain.trace, draft=None)
            self._account(chain)

    async def fail(self, chain: Chain, error: BackendError) -> None:
        """End a chain as a failure left it: the error is data, and what was spent stays charged."""
        await self.abandon(chain)
        stop: Stop = "context" if isinstance(error, ContextOverflow) else "error"
        chain.trace = _ended(replace(chain.trace, error=str(error)), stop)

    def _account(self, chain: Chain) -> None:
        """Let the trace say what the ledger has beside its steps."""
        beside = chain.ledger.beside
        if beside != chain.trace.extra:
            chain.trace = replace(chain.trace, extra=beside, extra_cost=self.cost(beside))

    # Solving

    def solve(self, problem: Problem | str, router: Router) -> Solution:
        """Grow a chain to its end: await it for the trace, or iterate over its steps as they come.

        Raises:
            ConfigError: if the question is empty or too long, when it is awaited or iterated over.
        """
        return Solution(self, problem, router)

    async def solve_many(
        self, problems: Iterable[Problem], router: Router, *, concurrency: int = 64
    ) -> AsyncIterator[Trace]:
        """Solve problems side by side and yield each trace as it finishes.

        At most ``concurrency`` chains are in flight. A problem that cannot be solved yields a
        trace with its error; leaving the iterator early cancels what is in flight.
        """

        async for trace in as_they_finish(partial(self.attempt, router=router), problems, concurrency):
            yield trace

    async def reachable(self, model: str) -> bool:
        """Whether the server of a model of the pool, or of its judge, can be reached now."""
        return model not in self.backends or await reachable(self.backends[model])

    async def back(self, models: Iterable[str]) -> bool:
        """Wait for those of some models whose servers cannot be reached, while one of them may be restarting:
        whether one is back."""
        gone = [model for model in models if not await self.reachable(model)]
        while any(restarting(self.backends[model]) for model in gone):
            await asyncio.sleep(POLL_S)
            if any(await asyncio.gather(*map(self.reachable, gone))):
                return True
        return False

    async def attempt(self, problem: Problem, router: Router) -> Trace:
        """`solve` to the end; a problem that cannot be solved gives a trace with its error.

        Raises:
            RouterError: if the router's code is wrong, which no other problem would mend.
        """
        try:
            return await self.solve(problem, router)
        except RouterError:
            raise
        except StepwiseError as error:
            return Trace(problem, stop="error", error=str(error))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end from synchronous code, on the event loop that all engines share."""
        return run(work)

    def solve_sync(self, problem: Problem | str, router: Router) -> Trace:
        """`solve` for synchronous code."""
        return self.run(self.solve(problem, router).finish())

    async def close(self) -> None:
        """Free all models."""
        await asyncio.gather(*(backend.close() for backend in self.backends.values()))

    def cost_alone(self, trace: Trace, model: str) -> float:
        """What the same text would have cost if ``model`` had written it all, in one go."""
        return self.cost({model: usage_alone(trace, model, self.backends[model], self._contexts)})

    def prompt_ids(self, trace: Trace) -> tuple[int, ...]:
        """The question's prompt in the cheapest model's tokens."""
        return tuple(self._contexts.of(Trace(trace.problem), self.models[0], {}).prefix)


def _ended(trace: Trace, stop: Stop | None) -> Trace:
    """The trace with why it ended, and its answer."""
    if stop is None:
        return trace
    text = trace.text if trace.problem.form is None or not trace.steps else spoken(trace.text)
    return replace(trace, stop=stop, answer=extract_answer(text))
