"""The engine: the only code that grows a chain of thought.

`Engine.advance` is the one transition. Solving, the Gymnasium environment, training, calibration,
evaluation and serving all go through it, so what is trained is what is served. The engine knows
nothing of routers' internals, stores, HTTP or configuration files.

Accounting. A chain pays for every token that a model computed for it: prompts, drafts, probes,
rejected drafts. Prompt tokens count as cached only if the server had them cached *and* this very
chain had sent them before, so the cost of a chain does not depend on what else ran on the server.
(Backends that remember completions model the server's part: see `stepwise.stored`.)
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import threading
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeVar

from stepwise import signals
from stepwise.backends.base import Backend, Sampling
from stepwise.cost import CostModel
from stepwise.errors import BackendError, ConfigError, ContextOverflow, StepwiseError
from stepwise.judge import Judge
from stepwise.stepping import StepRule
from stepwise.types import (
    Decision,
    Look,
    Problem,
    Router,
    Step,
    Trace,
    Usage,
    Verdict,
    add_usage,
    common_prefix,
)

T = TypeVar("T")
MAX_QUESTION = 100_000
"""Characters. Longer questions are refused before anything is tokenised."""


@lru_cache
def _shared_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="stepwise", daemon=True).start()
    return loop


def check_question(question: str) -> None:
    """What can be said of a question without a model.

    Raises:
        ConfigError: if it is empty or longer than `MAX_QUESTION`.
    """
    if not question.strip():
        raise ConfigError("question must not be empty.")
    if len(question) > MAX_QUESTION:
        raise ConfigError(f"question is too long: {len(question)} characters, at most {MAX_QUESTION}.")


def failed(trace: Trace, error: BackendError) -> Trace:
    """The trace as a failure left it: the error is data, and what was spent stays charged."""
    return replace(trace, stop="context" if isinstance(error, ContextOverflow) else "error", error=str(error))


class Engine:
    """Grows chains of thought with a pool of models.

    Args:
        backends: by model name, cheapest first. The first one writes drafts and probes.
        prompt: template with ``{question}``.
        rule: where steps end.
        cost: prices measured usage.
        temperature: 0 is greedy.
        top_p: nucleus mass, in (0, 1].
        seed: together with the model and the prefix it determines every sampled step.
        judge: for routers that look at a draft with a verdict.
    """

    def __init__(
        self,
        backends: Mapping[str, Backend],
        *,
        prompt: str,
        rule: StepRule,
        cost: CostModel,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        judge: Judge | None = None,
    ) -> None:
        if not backends:
            raise ConfigError("backends: an engine needs at least one model.")
        if "{question}" not in prompt:
            raise ConfigError(f"prompt must contain {{question}}, which {prompt!r} does not.")
        self.models = tuple(backends)
        self.judge = judge
        self.backends = {**backends, judge.name: judge.backend} if judge else dict(backends)
        self.rule = rule
        self.cost = cost
        self._prompt = prompt
        self._sampling = Sampling(rule.max_step_tokens, temperature, top_p, seed, (rule.separator,))

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
        size = len(self._prefix(trace, self.models[0]))
        if size > room:
            raise ConfigError(
                f"question is too long: {size} tokens, where the models' context leaves room for "
                f"{max(room, 0)}; shorten it or use models with a longer context."
            )
        return replace(trace, prompt_tokens=size)

    async def draft(self, trace: Trace, model: str, *, tokens: int | None = None) -> Trace:
        """Let ``model`` write a step that waits for a verdict; ``tokens=1`` is a probe."""
        return replace(trace, draft=await self._write(trace, model, tokens or self.rule.max_step_tokens))

    async def advance(self, trace: Trace, model: str, decision: Decision | None = None) -> Trace:
        """Append one step written by ``model``: the one transition of the system.

        A waiting draft of the same model becomes the step; a probe is written to its end first.
        A draft of another model is discarded, and what it took is charged to the new step.

        Raises:
            ConfigError: if the model is not in the pool or the chain has ended.
            BackendError: if the model cannot be run.
        """
        if model not in self.models:
            raise ConfigError(f"model must be one of {', '.join(self.models)}, not {model!r}.")
        if trace.stop is not None:
            raise ConfigError(f"the chain of problem {trace.problem.id!r} has already ended ({trace.stop}).")
        draft = trace.draft
        if draft is None:
            step = await self._write(trace, model, self.rule.max_step_tokens)
        elif draft.model == model:
            step = await self._finish(trace, draft)
        else:
            step = self._replace(draft, await self._write(trace, model, self.rule.max_step_tokens))
        steps = (*trace.steps, replace(step, decision=decision))
        return replace(trace, steps=steps, stop=self.rule.stop_after(step.finish, len(steps)), draft=None)

    async def look(self, trace: Trace, look: Look) -> Trace:
        """Put into the trace what a router wants to see before it decides.

        Raises:
            ConfigError: if it wants a verdict and the engine has no judge.
            BackendError: if a model cannot be run.
        """
        if look == "before":
            return trace
        if trace.draft is None:
            trace = await self.draft(trace, self.models[0], tokens=1 if look == "probe" else None)
        if look == "judged" and trace.draft and trace.draft.verdict is None:
            trace = replace(trace, draft=await self._judged(trace, trace.draft))
        return trace

    async def step(self, trace: Trace, router: Router) -> Trace:
        """Ask the router and advance. A model that fails marks the trace; it does not raise."""
        try:
            trace = await self.look(trace, router.look)
            decision = router.decide(trace)
            return await self.advance(trace, decision.model, decision)
        except BackendError as error:
            return failed(trace, error)

    # Solving

    async def solve(self, problem: Problem | str, router: Router) -> Trace:
        """Grow a chain to its end.

        Raises:
            ConfigError: if the question is empty or too long.
        """
        trace = self.start(problem)
        while trace.stop is None:
            trace = await self.step(trace, router)
        return trace

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

        if concurrency < 1:
            raise ConfigError(f"concurrency must be at least 1, not {concurrency}.")
        waiting = iter(problems)
        running: set[asyncio.Task[Trace]] = set()
        try:
            while True:
                while len(running) < concurrency and (problem := next(waiting, None)) is not None:
                    running.add(asyncio.create_task(one(problem)))
                if not running:
                    return
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end from synchronous code, also in notebooks.

        All engines of a process share one event loop in a thread of its own. An interrupt cancels
        the work.
        """
        future = asyncio.run_coroutine_threadsafe(work, _shared_loop())
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def solve_sync(self, problem: Problem | str, router: Router) -> Trace:
        """`solve` for synchronous code."""
        return self.run(self.solve(problem, router))

    async def close(self) -> None:
        """Free all models."""
        await asyncio.gather(*(backend.close() for backend in self.backends.values()))

    def cost_alone(self, trace: Trace, model: str) -> float:
        """What the same text would have cost if ``model`` had written it all, in one go."""
        prefix, whole = self._prefix(Trace(trace.problem), model), self._prefix(trace, model)
        return self.cost({model: Usage(prompt=len(prefix), completion=len(whole) - len(prefix))})

    def prompt_ids(self, trace: Trace) -> tuple[int, ...]:
        """The question's prompt in the cheapest model's tokens."""
        return self._prefix(Trace(trace.problem), self.models[0])

    # Writing one step

    async def _write(self, trace: Trace, model: str, tokens: int, begun: tuple[int, ...] = ()) -> Step:
        """Let a model continue the chain and the ``begun`` tokens of the next step."""
        prefix = (*self._prefix(trace, model), *begun)
        sampling = replace(self._sampling, max_tokens=tokens, seed=self._seed(model, prefix))
        completion = await self.backends[model].generate(prefix, sampling)
        seen = min(self._seen(trace, model, prefix), completion.usage.cached)
        usage = {model: replace(completion.usage, cached=seen)}
        return Step(
            completion.text, completion.token_ids, model, usage, completion.signals,
            self.cost(usage), completion.finish,
        )  # fmt: skip

    async def _finish(self, trace: Trace, draft: Step) -> Step:
        """An accepted draft as a step: a probe is written to its end, a whole draft is taken as it is."""
        room = self.rule.max_step_tokens - len(draft.token_ids)
        if draft.finish != "length" or room <= 0:
            return draft
        rest = await self._write(trace, draft.model, room, begun=draft.token_ids)
        return replace(
            rest,
            text=draft.text + rest.text,
            token_ids=draft.token_ids + rest.token_ids,
            usage=add_usage(draft.usage, rest.usage),
            signals=signals.join(draft.signals, rest.signals),
            cost=draft.cost + rest.cost,
        )

    async def _judged(self, trace: Trace, draft: Step) -> Step:
        """The draft with the judge's verdict, which it pays for."""
        judge = self.judge
        if judge is None:
            raise ConfigError("the router asks for a judge's verdict, and this pair has no judge.")
        judged = replace(trace, steps=(*trace.steps, draft))
        prefix = self._prefix(judged, judge.name, judge.suffix)
        completion = await judge.backend.generate(prefix, replace(self._sampling, max_tokens=1, seed=0))
        seen = min(self._judge_seen(trace, judge.name, prefix), completion.usage.cached)
        usage = {judge.name: replace(completion.usage, cached=seen).rejected()}
        return replace(
            draft,
            usage=add_usage(draft.usage, usage),
            cost=draft.cost + self.cost(usage),
            verdict=Verdict(completion.text, math.exp(completion.signals.mean_logprob)),
        )

    def _judge_seen(self, trace: Trace, judge: str, prefix: tuple[int, ...]) -> int:
        """How many leading tokens of ``prefix`` the judge has read earlier in this chain."""
        for i in reversed(range(len(trace.steps))):
            for judged in (trace.steps[i], trace.steps[i].draft):
                if judged is not None and judged.verdict is not None:
                    before = replace(trace, steps=(*trace.steps[:i], judged))
                    return common_prefix(self._prefix(before, judge), prefix[:-1])
        return 0

    def _replace(self, draft: Step, step: Step) -> Step:
        """The step that replaces a rejected draft; it carries the draft and its cost."""
        wasted = {model: usage.rejected() for model, usage in draft.usage.items()}
        rejected = replace(draft, usage=wasted, cost=self.cost(wasted))
        return replace(
            step, usage=add_usage(wasted, step.usage), cost=rejected.cost + step.cost, draft=rejected
        )

    def _prefix(self, trace: Trace, model: str, suffix: str = "") -> tuple[int, ...]:
        """The prompt and the steps in the model's tokens.

        Token ids pass unchanged between models that share a tokenizer; text is the common state of
        models that do not.
        """
        backend = self.backends[model]
        prompt = self._prompt.replace("{question}", trace.problem.question)
        same = all(self.backends[step.model].tokenizer == backend.tokenizer for step in trace.steps)
        if same and not suffix:
            return sum((step.token_ids for step in trace.steps), backend.encode(prompt))
        return backend.encode(prompt + trace.text + suffix)

    def _seen(self, trace: Trace, model: str, prefix: tuple[int, ...]) -> int:
        """How many leading tokens of ``prefix`` this model has processed earlier in this chain.

        The last token of a generation has been sampled but not processed.
        """
        drafts = (*(step.draft for step in trace.steps), trace.draft)
        for i in reversed(range(len(drafts))):
            step = trace.steps[i] if i < len(trace.steps) else None
            for mine in (step, drafts[i]):
                if mine is not None and mine.model == model:
                    before = self._prefix(replace(trace, steps=trace.steps[:i]), model)
                    return common_prefix((*before, *mine.token_ids[:-1]), prefix[:-1])
        return 0

    def _seed(self, model: str, prefix: tuple[int, ...]) -> int:
        if self._sampling.temperature == 0.0:
            return 0
        text = f"{self._sampling.seed} {model} {prefix}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")
