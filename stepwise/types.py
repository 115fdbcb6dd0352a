"""The values that flow through stepwise: small, frozen, standard library only.

A `Trace` is append-only: every transition returns a new one. Token counts are in tokens,
log-probabilities are natural logarithms, costs are in the unit of the engine's cost model.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

Look = Literal["before", "probe", "after_draft", "judged", "verified"]
"""When a router looks: at the trace alone, at the first token of a draft, at a whole draft, at a draft with a
judge's verdict on it, or at a draft that the most expensive model has read."""

Finish = Literal["stop", "end", "length"]
"""How a generation ended: at a stop string, by the model's own end of answer, or cut off."""

Stop = Literal["answered", "max_steps", "max_tokens", "repeated", "context", "error"]
"""Why a chain ended. Only ``answered`` means that the model itself closed it."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side of a conversation said."""

    role: Literal["system", "user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class Form:
    """What a turn has to be that is written whole, as one step: a call of a tool, or a text of a given shape.
    In the words of OpenAI's chat endpoint, as JSON, so that it is a value.

    Attributes:
        messages: the conversation, an object each, calls of tools and their results among them.
        options: an object of ``tools``, ``tool_choice`` and ``response_format``, as far as they are given.
    """

    messages: tuple[str, ...]
    options: str = "{}"


@dataclass(frozen=True, slots=True)
class Problem:
    """A question with its gold answer (empty when unknown).

    Attributes:
        labels: what kind of problem it is (level, subject, ...), for breakdowns.
        turns: what was said before the question, where it is part of a conversation.
        form: what the answer has to be, where it is one step. Models then read its messages, and the question
            is what routers know of them.
        read: by model, how many messages of the conversation it has read in earlier turns of it, the first
            ones: what its server has cached of them is priced as cached.
    """

    id: str
    question: str
    answer: str = ""
    labels: Mapping[str, str] = field(default_factory=dict, compare=False)
    turns: tuple[Turn, ...] = field(default=(), kw_only=True)
    form: Form | None = field(default=None, kw_only=True)
    read: Mapping[str, int] = field(default_factory=dict, compare=False, kw_only=True)

    @property
    def asked(self) -> str:
        """What models are asked: the question, or what stands for it where it is not known."""
        return self.question


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one or more model calls, as the server counted them.

    Attributes:
        prompt: prompt tokens sent, including those found in the server's cache.
        cached: the part of ``prompt`` that was served from the prefix cache.
        completion: generated tokens that are part of the chain.
        discarded: generated tokens that were thrown away (rejected drafts and probes).
        estimated: how many of all these tokens no server counted: a call that was cut off, for example.
        calls: requests that sent a prompt, as a chain's ledger counts them; 0 in what a backend reports. The
            same tokens in more calls are equal.
    """

    prompt: int = 0
    cached: int = 0
    completion: int = 0
    discarded: int = 0
    estimated: int = 0
    calls: int = field(default=0, compare=False)

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt + other.prompt,
            self.cached + other.cached,
            self.completion + other.completion,
            self.discarded + other.discarded,
            self.estimated + other.estimated,
            self.calls + other.calls,
        )

    def known(self, tokens: int) -> Usage:
        """The same calls, with at most this many tokens of the prompt counted as cached."""
        cached = min(self.cached, tokens)
        return Usage(self.prompt, cached, self.completion, self.discarded, self.estimated, self.calls)

    def discard(self, tokens: int) -> Usage:
        """The same calls, with this many of the generated tokens thrown away."""
        kept = self.completion - tokens
        return Usage(self.prompt, self.cached, kept, self.discarded + tokens, self.estimated, self.calls)

    def called(self) -> Usage:
        """The same as one call, if it sent a prompt; what a generation goes on to write is none."""
        calls = int(self.prompt > 0)
        return Usage(self.prompt, self.cached, self.completion, self.discarded, self.estimated, calls)

    def rejected(self) -> Usage:
        """The same calls, with everything they generated thrown away."""
        return self.discard(self.completion)


def add_usage(*parts: Mapping[str, Usage]) -> dict[str, Usage]:
    """Sum usage by model name."""
    total: dict[str, Usage] = {}
    for part in parts:
        for model, usage in part.items():
            total[model] = total.get(model, Usage()) + usage
    return total


@dataclass(frozen=True, slots=True)
class Signals:
    """What a model's own probabilities say about a piece of text that it wrote.

    Attributes:
        mean_logprob: mean log-probability of the tokens, <= 0.
        min_logprob: log-probability of the least likely token, <= 0.
        first_entropy: entropy in nats of the first token over the renormalised top 20
            (GlimpRouter, arXiv 2601.05110).
        margin: the smallest gap between the probabilities of the two likeliest tokens, in [0, 1].
        length: number of tokens.
        missing: the model gave no probabilities, or none that can be true: only ``length`` means anything.
    """

    mean_logprob: float = 0.0
    min_logprob: float = 0.0
    first_entropy: float = 0.0
    margin: float = 1.0
    length: int = 0
    missing: bool = False

    @property
    def known(self) -> bool:
        """Whether they say anything. Where they do not, they must not be read as confidence."""
        return self.length > 0 and not self.missing


@dataclass(frozen=True, slots=True)
class Decision:
    """A router's choice for one step.

    Attributes:
        model: that writes it.
        score: behind the choice.
        reason: to show.
        look: what the router wants to see before it chooses; ``model`` is what it would choose without.
    """

    model: str
    score: float | None = None
    reason: str = ""
    look: Look | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge wrote about a draft: one token, and how likely it was, None where the judge's backend did
    not tell."""

    token: str
    probability: float | None


@dataclass(frozen=True, slots=True)
class Reading:
    """What the probabilities of a model say of a draft that it has read, and did not write."""

    model: str
    signals: Signals


@dataclass(frozen=True, slots=True)
class Step:
    """One line of reasoning and everything that was spent to get it.

    Attributes:
        text: the decoded step, including its separator.
        token_ids: the step in the tokenizer of ``model``.
        model: name of the model that wrote it.
        usage: tokens by model since the step before, a rejected draft's and failed attempts' included.
        signals: of the text as its writer saw it.
        cost: price of ``usage`` in the engine's cost unit.
        finish: how its generation ended.
        draft: the rejected draft that this step replaced, if any.
        decision: the router's choice that led to the step, if a router was asked.
        verdict: what a judge said of it while it was a draft, if one was asked.
        reading: what the most expensive model thought of it while it was a draft, if it was asked to read it.
        counted: tokens of the step by its server's count, where ``token_ids`` are characters.
    """

    text: str
    token_ids: tuple[int, ...]
    model: str
    usage: Mapping[str, Usage] = field(hash=False)
    signals: Signals
    cost: float = 0.0
    finish: Finish = "stop"
    draft: Step | None = None
    decision: Decision | None = None
    verdict: Verdict | None = None
    counted: int | None = None
    reading: Reading | None = None

    @property
    def length(self) -> int:
        """Tokens of the step."""
        return len(self.token_ids) if self.counted is None else self.counted


@dataclass(frozen=True, slots=True)
class Estimate:
    """What to expect of one model on a question, before it is asked.

    Attributes:
        p_correct: probability of a right answer (or the expected value of another objective), in [0, 1].
        tokens: generated tokens; as likely to be exceeded as not.
        cost: of the question, in the unit of the model's price; None without a price.
        interval: of ``tokens``, 90%.
        explanation: in words, where the estimator gives any.
        usage: tokens that the estimate took, by the model that was asked for it.
        p_interval: of ``p_correct``, 90%; None where the estimator gives none.
        outside: whether the question lies outside what the anchors cover; ``p_correct`` is then the model's
            mean.
    """

    model: str
    p_correct: float
    tokens: float
    cost: float | None
    interval: tuple[float, float] = (0.0, 0.0)
    explanation: str = ""
    usage: Mapping[str, Usage] = field(default_factory=dict, hash=False)
    p_interval: tuple[float, float] | None = None
    outside: bool = False


@dataclass(frozen=True, slots=True)
class Trace:
    """A chain of thought so far: a value that can be hashed, compared, pickled and printed whole.

    Attributes:
        stop: why it ended; None while it can go on.
        error: what failed, when something did.
        degraded: why another model than the one that was chosen wrote a part of it; '' where none had to.
        answer: the final answer as the chain states it, read when it ends; '' when it states none.
        draft: a step that waits for the router's verdict.
        prompt_tokens: length of the prompt in the cheapest model's tokens.
        estimates: what was expected of the models before the chain began, where anybody was asked.
        extra: tokens by model that belong to no step: an estimate before the start, whatever was under way
            when the chain failed or was given up.
        extra_cost: price of ``extra`` in the engine's cost unit.
        full: models without room for another step, where others of the pool have some.
    """

    problem: Problem
    steps: tuple[Step, ...] = ()
    stop: Stop | None = None
    error: str | None = None
    answer: str = ""
    draft: Step | None = None
    prompt_tokens: int = 0
    estimates: tuple[Estimate, ...] = ()
    extra: Mapping[str, Usage] = field(default_factory=dict, hash=False)
    extra_cost: float = 0.0
    full: tuple[str, ...] = ()
    degraded: str = ""

    @property
    def text(self) -> str:
        """All steps, as the models wrote them."""
        return "".join(step.text for step in self.steps)

    def then(self, question: str, id: str = "") -> Problem:
        """The next question of the conversation that this answer belongs to."""
        asked = self.problem
        turns = (*asked.turns, Turn("user", asked.question), Turn("assistant", self.text))
        read = {**asked.read, **dict.fromkeys(self.usage, len(asked.turns) + 1)}
        return Problem(id or f"{asked.id}+", question, turns=turns, read=read)

    @property
    def usage(self) -> dict[str, Usage]:
        """Tokens by model, over all steps, a waiting draft, and what belongs to no step."""
        waiting = (self.draft.usage,) if self.draft else ()
        return add_usage(self.extra, *(step.usage for step in self.steps), *waiting)

    @property
    def cost(self) -> float:
        """Price of `usage` in the engine's unit."""
        waiting = self.draft.cost if self.draft else 0.0
        return self.extra_cost + sum(step.cost for step in self.steps) + waiting


class Router(Protocol):
    """Chooses who writes the next step. ``look`` says what must be in the trace beforehand; a router that
    also reads the trace's estimates has an attribute ``expects`` that is true."""

    @property
    def name(self) -> str:
        """What results are listed under."""
        ...

    @property
    def look(self) -> Look:
        """What it wants to see before it decides."""
        ...

    def decide(self, trace: Trace) -> Decision:
        """Who writes the next step of a chain, and why.

        Args:
            trace: the chain so far, with what ``look`` asked for, such as a draft of the small model.
        """
        ...


def named(router: object) -> str:
    """The model that the caller named, where the router is no more than that: it must not be replaced."""
    return str(getattr(router, "named", ""))


def whole(router: object) -> bool:
    """Whether a router lets the model that it chooses first write the whole chain."""
    return bool(getattr(router, "whole", False))


def expects(router: object) -> bool:
    """Whether a router, or its scorer, reads the trace's estimates; others do not pay for them."""
    return bool(getattr(router, "expects", False))


class Prior(Protocol):
    """Says what to expect of the models on a question. ``asks`` names the models that it puts the question
    to, if any; what they take it charges by model, as it learns of it."""

    @property
    def asks(self) -> tuple[str, ...]:
        """Names of the models that it puts a question to; () for none."""
        ...

    def __call__(self, question: str, charge: Callable[[str, Usage], None]) -> tuple[Estimate, ...]: ...


def normalised(question: str) -> str:
    """A question reduced to what makes two of them the same: case, spacing and typography go.

    Letters of every script and operators stay ("x > 3" is not "x < 3"), however they are spaced.
    """
    text = _DASHES.sub("-", unicodedata.normalize("NFKC", question).casefold())
    text = _SPACED_OPERATOR.sub(r"\1", _TYPOGRAPHY.sub(" ", text))
    return " ".join(text.split())


_DASHES = re.compile("[\u2010-\u2015\u2212]")
_TYPOGRAPHY = re.compile(r"""[?!;,"'`¿¡、。‘’‚“”„«»]|(?<!\d):|:(?!\d)""")
_SPACED_OPERATOR = re.compile(r"\s*([^\w\s.%$])\s*")


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix."""
    length = min(len(a), len(b))
    for i in range(length):
        if a[i] != b[i]:
            return i
    return length
