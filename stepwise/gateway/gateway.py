"""The gateway without HTTP: from a request to a job, from a finished chain to the accounts."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

from stepwise.calibration import OnlineThreshold
from stepwise.engine.chain import Chain
from stepwise.engine.engine import Engine
from stepwise.errors import ConfigError
from stepwise.gateway import answers
from stepwise.gateway.admission import Admission, Limits
from stepwise.gateway.answer_choice import AnswerChoice, Finished
from stepwise.gateway.conversations import Conversations
from stepwise.gateway.decisions import Decisions, Watched
from stepwise.gateway.failures import Refusal
from stepwise.gateway.job import Job
from stepwise.gateway.keys import Tenant
from stepwise.gateway.knob import Knob
from stepwise.gateway.log import log
from stepwise.gateway.metrics import GatewayMetrics
from stepwise.gateway.order import Order, Outcome
from stepwise.gateway.schemas import MAX_CHAINS, ChatRequest, CompletionRequest
from stepwise.gateway.shared import SharedSpending
from stepwise.gateway.spending import Spending
from stepwise.gateway.tracing import Untraced
from stepwise.types import Problem, Router, Turn, Usage


class Gateway:
    """Serves one engine.

    Args:
        engine: runs the chains.
        routers: by name; the first is the default.
        limits: what it takes on.
        spending: accounts, and the default router's moving threshold.
        conversation: write system messages and earlier turns into the question, instead of giving them to the
            models as turns.
        log_prompts: let questions and answers into the log and the list of recent requests.
        aliases: other names of models.
        decisions: puts routers under observation, and logs what they decide.
        tracing: writes chains as spans.
    """

    def __init__(
        self,
        engine: Engine,
        routers: Mapping[str, Router],
        *,
        limits: Limits,
        spending: Spending,
        conversation: bool,
        log_prompts: bool,
        aliases: Mapping[str, str],
        decisions: Decisions | None = None,
        tracing: Untraced | None = None,
    ) -> None:
        online: OnlineThreshold | None = spending.online
        self.engine, self.spending = engine, spending
        self._decisions, self._tracing = decisions, tracing or Untraced()
        self.knob = Knob(engine.models, routers, online, aliases)
        self.admission = Admission(limits)
        self.metrics = GatewayMetrics()
        self.metrics.watch_admission(self.admission)
        self.metrics.watch_backends(engine.backends)
        if online is not None:
            self.metrics.watch_online(online)
        if isinstance(spending, SharedSpending):
            self.metrics.watch_state(spending)
        self._conversations = Conversations()
        self._conversation, self._log_prompts = conversation, log_prompts

    @property
    def converses(self) -> bool:
        """Whether it takes earlier turns."""
        said = Problem("", "?", turns=(Turn("user", "?"), Turn("assistant", "!")))
        try:
            return self._conversation or bool(self.engine.start(said))
        except ConfigError:
            return False

    def submit(self, asked: ChatRequest | CompletionRequest, tenant: Tenant) -> Job:
        """Start a request's chains, or refuse before anything runs.

        Raises:
            Refusal: if a limit is reached, or a field is not supported.
            ConfigError: if a question or a target is unusable.
            InfeasibleTarget: if the target cannot be promised.
        """
        router, default = self.knob.router(asked.model, asked.stepwise)
        if self._decisions is not None:
            router = self._decisions.observed(router, self.engine.models)
        problems = self._problems(asked, tenant)
        engines = self._engines(asked, len(problems))
        begun = [_begin(engine, problem) for engine, problem in zip(engines, problems, strict=True)]
        prompts = [chain.trace.prompt_tokens for chain in begun]
        reserved = self.spending.reserve(tenant, [self._least(prompt) for prompt in prompts])
        order = Order(
            tenant, asked.model, router, default, problems, prompts, engines, asked.stop, asked.stream,
            asked.limit is not None, asked.apart, asked.turn, reserved,
        )  # fmt: skip
        try:
            return Job(order, self.admission, self.settle, self._tracing)
        except Refusal:
            reserved.release()
            raise

    def _least(self, prompt: int) -> float:
        """What a chain costs at the least: the cheapest model reads its prompt once."""
        return self.engine.cost({self.engine.models[0]: Usage(prompt=prompt)})

    def _problems(self, asked: ChatRequest | CompletionRequest, tenant: Tenant) -> list[Problem]:
        """A problem a chain."""
        form = asked.form
        flat = self._conversation and form is None
        questions = asked.questions(conversation=flat)
        if len(questions) * asked.n > MAX_CHAINS:
            message = f"prompts x n must be at most {MAX_CHAINS}, not {len(questions) * asked.n}."
            raise Refusal(400, message, code="too_many_chains", param="n")
        turns = () if flat or form else asked.turns
        problems = [Problem("", question, turns=turns, form=form) for question in questions]
        if turns or form:
            problems = [replace(p, read=self._conversations.read(tenant.name, p)) for p in problems]
        return [problem for problem in problems for _ in range(asked.n)]

    def _engines(self, asked: ChatRequest | CompletionRequest, count: int) -> list[Engine]:
        """An engine a chain, each with a seed of its own: same request and seed, same answers."""
        allowed = [value for value in (asked.limit, self.admission.limits.tokens) if value is not None]
        limit = min(allowed, default=None)
        seed = random.getrandbits(32) if asked.seed is None else asked.seed
        return [
            self.engine.with_sampling(
                temperature=asked.temperature, top_p=asked.top_p, seed=seed + i, max_tokens=limit
            )
            for i in range(count)
        ]

    def first_text(self, job: Job) -> None:
        """Note how long a job's first text took."""
        self.metrics.first_seconds.observe(time.time() - job.order.created)

    def settle(self, order: Order, choice: AnswerChoice, end: Finished, outcome: Outcome) -> None:
        """Book a chain: metrics, the tenant's account, the moving threshold, the log."""
        trace = end.trace
        self.metrics.chain(trace, end.alone, order.router.name, outcome)
        for before, done in pairwise(choice.steps):
            self.metrics.step_seconds.labels(done.step.model).observe(done.time - before.time)
        order.reserved.settle(choice.index, trace.cost)
        if outcome == "finished":
            self._learn(order, choice.index, end)
        if outcome == "finished" and choice.message is not None:
            self._conversations.answered(order.tenant.name, trace.problem, choice.message, trace.usage)
        entry = self._entry(order, choice, end, outcome)
        self.spending.recent.add(order.tenant.name, entry)
        log("chain", tenant=order.tenant.name, **entry)

    def _learn(self, order: Order, chain: int, end: Finished) -> None:
        """What a whole chain says of its router: to the moving threshold, and to the log of decisions."""
        routed = order.default and not isinstance(order.router, Watched)
        if routed and not _cut_short(order, end):
            self.spending.learn(end.trace.cost, end.alone)
        if self._decisions is not None:
            question = order.problems[chain].question if self._log_prompts else ""
            engine = order.engines[chain]
            self._decisions.note(order.router, engine, order.tenant, end, order.created, question)

    def _entry(self, order: Order, choice: AnswerChoice, end: Finished, outcome: Outcome) -> dict[str, Any]:
        entry = {
            "id": f"{order.id}-{choice.index}",
            "time": order.created,
            "seconds": round(time.time() - order.created, 4),
            "model": order.model,
            "turn": order.turn,
            "outcome": outcome,
            "error": end.trace.error,
            "writers": [step.model for step in end.trace.steps],
            **answers.summary(order.router, end, self.engine.cost.unit),
        }
        if self._log_prompts:
            return {**entry, "question": order.problems[choice.index].question, "text": end.trace.text}
        del entry["answer"]
        return entry


def _begin(engine: Engine, problem: Problem) -> Chain:
    """Read the prompt; what cannot be read is said of the field that it came in."""
    try:
        return engine.start(problem)
    except ConfigError as error:
        if problem.form is not None:
            raise Refusal(400, f"tools: {error}.", code="invalid_value", param="tools") from error
        if not problem.turns:
            raise
        message = (
            f"messages must be one user message here: {error}; leave the others out, or start the server "
            "with --conversation include, which writes them into the question."
        )
        raise Refusal(400, message, code="invalid_value", param="messages") from error


def _cut_short(order: Order, end: Finished) -> bool:
    """Whether the request ended the chain early: what a part of a chain costs says nothing of whole ones."""
    return end.stop == "stop_string" or (order.limited and end.stop == "max_tokens")
