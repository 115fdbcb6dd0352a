"""The engine: the only code that grows a chain of thought.

`Engine.advance` is the one transition. Solving, the Gymnasium environment, training, calibration,
evaluation and serving all go through it, so what is trained is what is served. The engine knows
nothing of routers' internals, stores, HTTP or configuration files.

`stepwise.engine.step_writer` writes a step and counts what it takes.

Where ``run_on`` is set, a model that can be read while it writes goes on past the end of a step until
another model takes over (`stepwise.engine.lookahead`); its overrun is charged as discarded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Collection, Coroutine, Iterable, Mapping
from copy import copy
from dataclasses import replace
from typing import Any, TypeVar, cast

from stepwise.engine.backend import Backend, Sampling, StreamingBackend
from stepwise.engine.chain import Chain
from stepwise.engine.concurrency import as_they_finish, run
from stepwise.engine.contexts import Views
from stepwise.engine.cost import CostModel
from stepwise.engine.judge import Judge
from stepwise.engine.lookahead import Listener
from stepwise.engine.step_writer import Writer
from stepwise.engine.stop_rules import StepRule
from stepwise.errors import BackendError, ConfigError, ContextOverflow, StepwiseError
from stepwise.types import (
    Decision,
    Estimate,
    Look,
    Prior,
    Problem,
    Router,
    Stop,
    Trace,
    Usage,
)

T = TypeVar("T")
MAX_QUESTION = 100_000
"""Characters. Longer questions are refused before anything is tokenised."""


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
        stops: by model, strings that end its answer with the step that contains one.
        run_on: names of models that run on past the end of a step; their backends must be streaming.
        failover: when a model cannot be run, let another one of the pool write the step.
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
        run_on: Collection[str] = (),
        failover: bool = False,
        prior: Prior | None = None,
    ) -> None:
        if not backends:
            raise ConfigError("backends: an engine needs at least one model.")
        self.models = tuple(backends)
        every = {**backends, judge.name: judge.backend} if judge else dict(backends)
        self.failover = failover
        self._views = Views(
            every,
            prompts=dict.fromkeys(every, prompt) | dict(prompts or {}),
            think_ends=think_ends or {},
            judge=judge.name if judge else "",
        )
        for name in run_on:
            if not isinstance(every.get(name), StreamingBackend):
                raise ConfigError(f"run_on: model {name!r} cannot be read while it writes.")
        sampling = Sampling(rule.max_step_tokens, temperature, top_p, seed, (rule.separator,))
        self._writer = Writer(
            every, self._views, rule, cost, sampling, judge, dict(stops or {}), frozenset(run_on)
        )
        self.prior = prior

    def sampling(
        self,
        *,
        temperature: float | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        max_tokens: int | None = None,
    ) -> Engine:
        """This engine, over the same models, with other sampling for one request.

        Args:
            temperature, top_p, seed: as of the engine unless given.
            max_tokens: of the chain; the last step is cut off there.

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
        rule = replace(self.rule, max_tokens=max_tokens)
        other._writer = replace(self._writer, sampling=sampling, rule=rule)
        return other

    @property
    def backends(self) -> dict[str, Backend]:
        """By name, the judge's too."""
        return cast(dict[str, Backend], self._writer.backends)

    @property
    def judge(self) -> Judge | None:
        return self._writer.judge

    @property
    def rule(self) -> StepRule:
        return self._writer.rule

    @property
    def cost(self) -> CostModel:
        return self._writer.cost

    @property
    def seed(self) -> int:
        return self._writer.sampling.seed

    @property
    def prior(self) -> Prior | None:
        return self._prior

    @prior.setter
    def prior(self, prior: Prior | None) -> None:
        self.cost(dict.fromkeys(prior.asks if prior else (), Usage()))  # refuses a model without a price
        self._prior = prior

    # Growing a chain

    def start(self, problem: Problem | str) -> Trace:
        """An empty chain for a question.

        Raises:
            ConfigError: if the question is empty or does not fit the smallest context window.
        """
        if isinstance(problem, str):
            problem = Problem("question", problem)
        check_question(problem.question)
        trace = Trace(problem)
        room = min(backend.context for backend in self.backends.values()) - self.rule.max_step_tokens
        size = len(self._views.of(trace, self.models[0]).prefix)
        if size > room:
            raise ConfigError(
                f"question is too long: {size} tokens, where the models' context leaves room for "
                f"{max(room, 0)}; shorten it or use models with a longer context."
            )
        return replace(trace, prompt_tokens=size)

    async def draft(self, trace: Trace, model: str, *, tokens: int | None = None) -> Trace:
        """Let ``model`` write a step that waits for a verdict; ``tokens=1`` is a probe."""
        step, live = await self._writer.write(trace, model, tokens or self.rule.room(trace.steps))
        return replace(trace, draft=step, live=live)

    async def advance(
        self, trace: Trace, model: str, decision: Decision | None = None, listen: Listener | None = None
    ) -> Trace:
        """Append one step written by ``model``: the one transition of the system.

        A waiting draft of the same model becomes the step; a probe is written to its end first.
        A draft of another model is discarded, and what it took is charged to the new step.

        Args:
            listen: called with the step's text while it is generated, where the backend can be read.

        Raises:
            ConfigError: if the model is not in the pool or the chain has ended.
            BackendError: if the model cannot be run.
        """
        if model not in self.models:
            raise ConfigError(f"model must be one of {', '.join(self.models)}, not {model!r}.")
        if trace.stop is not None:
            raise ConfigError(f"the chain of problem {trace.problem.id!r} has already ended ({trace.stop}).")
        draft, live = trace.draft, trace.live
        if draft is not None and draft.model == model:
            step, live = await self._writer.finish(trace, draft, listen)
        else:
            step, live = await self._writer.write(trace, model, self.rule.room(trace.steps), listen=listen)
            step = self._writer.instead(draft, step) if draft else step
        stop = self.rule.stop_after(step, trace.steps)
        if stop is not None and live is not None:
            step, live = self._writer.charge(step, model, await live.stop()), None
        step = replace(step, decision=decision) if decision else step
        views = self._views.after(trace, step)
        return replace(trace, steps=(*trace.steps, step), stop=stop, draft=None, views=views, live=live)

    async def look(self, trace: Trace, look: Look, *, expects: bool = False) -> Trace:
        """Put into the trace what a router wants to see before it decides; also the prior's estimates, where
        it ``expects`` them.

        Raises:
            ConfigError: if it wants a verdict and the engine has no judge.
            BackendError: if a model cannot be run.
        """
        if not expects or self.prior is None or trace.estimates:
            return await self._seen(trace, look)
        asked = asyncio.create_task(asyncio.to_thread(self.prior, trace.problem.question))
        try:
            trace = await self._seen(trace, look)
        except BackendError as error:
            spent = self._writer.charge_beside(error.trace or trace, error.usage)
            raise error.left(await self._expecting(spent, asked)) from error
        else:
            return await self._expecting(trace, asked)
        finally:
            asked.cancel()

    async def _seen(self, trace: Trace, look: Look) -> Trace:
        if look != "before" and trace.draft is None:
            trace = await self.draft(trace, self.models[0], tokens=1 if look == "probe" else None)
        try:
            if look == "judged" and trace.draft and trace.draft.verdict is None:
                trace = replace(trace, draft=await self._writer.judged(trace, trace.draft))
        except BackendError as error:
            raise error.left(self._writer.charge_beside(trace, error.usage)) from error
        return trace

    async def _expecting(self, trace: Trace, asked: Awaitable[tuple[Estimate, ...]]) -> Trace:
        """The trace with estimates, which it pays for."""
        try:
            estimates = await asked
        except BackendError as error:
            raise error.left(self._writer.charge_beside(trace, error.usage)) from error
        return self._writer.charge_beside(
            replace(trace, estimates=estimates), *(one.usage for one in estimates)
        )

    async def abandon(self, trace: Trace) -> Trace:
        """Stop what runs on behind a chain that will not be continued, and charge it."""
        if trace.live is None:
            return trace
        return self._writer.charge_beside(
            replace(trace, live=None), {trace.live.model: await trace.live.stop()}
        )

    async def failed(self, trace: Trace, error: BackendError) -> Trace:
        """The trace as a failure left it: the error is data, and what was spent stays charged."""
        trace = await self.spent(trace, error)
        stop: Stop = "context" if isinstance(error, ContextOverflow) else "error"
        return replace(trace, stop=stop, error=str(error))

    async def spent(self, trace: Trace, error: BackendError) -> Trace:
        """The trace with what the failure took; nothing runs on behind it."""
        return self._writer.charge_beside(await self.abandon(error.trace or trace), error.usage)

    # Solving

    def solve(self, problem: Problem | str, router: Router) -> Chain:
        """Grow a chain to its end: await it for the trace, or iterate over its steps as they come.

        Raises:
            ConfigError: if the question is empty or too long, when it is awaited or iterated over.
        """
        return Chain(self, problem, router)

    async def solve_many(
        self, problems: Iterable[Problem], router: Router, *, concurrency: int = 64
    ) -> AsyncIterator[Trace]:
        """Solve problems side by side and yield each trace as it finishes.

        At most ``concurrency`` chains are in flight. A problem that cannot be solved yields a
        trace with its error; leaving the iterator early cancels what is in flight.
        """

        async def one(problem: Problem) -> Trace:
            try:
                return await self.solve(problem, router)
            except StepwiseError as error:
                return Trace(problem, stop="error", error=str(error))

        async for trace in as_they_finish(one, problems, concurrency):
            yield trace

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
        prompt, whole = (
            self._views.of(Trace(trace.problem), model).prefix,
            self._views.of(trace, model).prefix,
        )
        return self.cost({model: Usage(prompt=len(prompt), completion=len(whole) - len(prompt))})

    def prompt_ids(self, trace: Trace) -> tuple[int, ...]:
        """The question's prompt in the cheapest model's tokens."""
        return tuple(self._views.of(Trace(trace.problem), self.models[0]).prefix)
