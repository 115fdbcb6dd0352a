"""The gateway without HTTP: from a request to a job, from a finished chain to the accounts."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from stepwise.calibration import OnlineThreshold
from stepwise.engine.engine import Engine
from stepwise.gateway import answers
from stepwise.gateway.admission import Admission, Limits
from stepwise.gateway.answer_choice import AnswerChoice, Finished
from stepwise.gateway.decisions import Decisions, Watched
from stepwise.gateway.failures import Refusal
from stepwise.gateway.job import Job, Order, Outcome
from stepwise.gateway.keys import Tenant
from stepwise.gateway.knob import Knob
from stepwise.gateway.log import log
from stepwise.gateway.metrics import GatewayMetrics
from stepwise.gateway.schemas import MAX_CHAINS, ChatRequest, CompletionRequest
from stepwise.gateway.spending import Spending
from stepwise.types import Router, Usage

RECENT = 50


class Gateway:
    """Serves one engine.

    Args:
        engine: runs the chains.
        routers: by name; the first is the default.
        limits: what it takes on.
        spending: accounts, and the default router's moving threshold.
        conversation: take system messages and earlier turns into the question; else refuse them.
        log_prompts: let questions and answers into the log and the list of recent requests.
        aliases: other names of models.
        decisions: puts routers under observation, and logs what they decide.
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
    ) -> None:
        online: OnlineThreshold | None = spending.online
        self.engine, self.spending = engine, spending
        self._decisions = decisions
        self.knob = Knob(engine.models, routers, online, aliases)
        self.admission = Admission(limits)
        self.metrics = GatewayMetrics()
        self.metrics.watch_admission(self.admission)
        self.metrics.watch_backends(engine.backends)
        if online is not None:
            self.metrics.watch_online(online)
        self._recent: deque[tuple[str, dict[str, Any]]] = deque(maxlen=RECENT)
        self._conversation, self._log_prompts = conversation, log_prompts

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
        questions = self._questions(asked)
        engines = self._engines(asked, len(questions))
        begun = [engine.start(question) for engine, question in zip(engines, questions, strict=True)]
        prompts = [chain.trace.prompt_tokens for chain in begun]
        reserved = self.spending.reserve(tenant, [self._least(prompt) for prompt in prompts])
        order = Order(
            tenant, asked.model, router, default, questions, prompts, engines, asked.stop, asked.stream,
            asked.limit is not None, reserved,
        )  # fmt: skip
        try:
            return Job(order, self.admission, self.settle)
        except Refusal:
            reserved.release()
            raise

    def _least(self, prompt: int) -> float:
        """What a chain costs at the least: the cheapest model reads its prompt once."""
        return self.engine.cost({self.engine.models[0]: Usage(prompt=prompt)})

    def _questions(self, asked: ChatRequest | CompletionRequest) -> list[str]:
        try:
            questions = asked.questions(conversation=self._conversation)
        except ValueError as error:
            raise Refusal(400, f"{error}.", code="invalid_value", param="messages") from error
        if len(questions) * asked.n > MAX_CHAINS:
            message = f"prompts x n must be at most {MAX_CHAINS}, not {len(questions) * asked.n}."
            raise Refusal(400, message, code="too_many_chains", param="n")
        return [question for question in questions for _ in range(asked.n)]

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
        entry = self._entry(order, choice, end, outcome)
        self._recent.append((order.tenant.name, entry))
        log("chain", tenant=order.tenant.name, **entry)

    def _learn(self, order: Order, chain: int, end: Finished) -> None:
        """What a whole chain says of its router: to the moving threshold, and to the log of decisions."""
        routed = order.default and not isinstance(order.router, Watched)
        if routed and not _cut_short(order, end):
            self.spending.learn(end.trace.cost, end.alone)
        if self._decisions is not None:
            question = order.questions[chain] if self._log_prompts else ""
            engine = order.engines[chain]
            self._decisions.note(order.router, engine, order.tenant, end, order.created, question)

    def _entry(self, order: Order, choice: AnswerChoice, end: Finished, outcome: Outcome) -> dict[str, Any]:
        entry = {
            "id": f"{order.id}-{choice.index}",
            "time": order.created,
            "seconds": round(time.time() - order.created, 4),
            "model": order.model,
            "outcome": outcome,
            "error": end.trace.error,
            "writers": [step.model for step in end.trace.steps],
            **answers.summary(order.router, end, self.engine.cost.unit),
        }
        if self._log_prompts:
            return {**entry, "question": order.questions[choice.index], "text": end.trace.text}
        del entry["answer"]
        return entry

    def recent(self, tenant: Tenant) -> list[dict[str, Any]]:
        """The tenant's latest chains, the newest first."""
        return [entry for name, entry in reversed(self._recent) if name == tenant.name]


def _cut_short(order: Order, end: Finished) -> bool:
    """Whether the request ended the chain early: what a part of a chain costs says nothing of whole ones."""
    return end.stop == "stop_string" or (order.limited and end.stop == "max_tokens")
