"""Any OpenAI-compatible chat endpoint, for models whose tokenizer nobody has: closed ones, above all.

The state is text: what stands for a token id here is a character, and what a call took is the server's count
of tokens. Where it gives none, four characters are taken for a token, and `Usage.estimated` says so. The
prompt ends with a mark that no text contains, so that the question can be told from the steps when the prefix
comes back; the turns of a conversation begin with marks, too, and are sent as messages.

A step boundary costs a call. So a model that writes a whole chain writes it in one (``answer_tokens``), and
the engine cuts it into steps. Otherwise there are two ways to go on with a chain that another model has
begun. Where the server can continue the assistant's message (vLLM, SGLang: ``continue_final_message``), it
does. Elsewhere the steps so far are put into the question, and the model is asked for the next one.

A server that does not say *why* it stopped cannot tell the end of a step from the end of the answer. The
step is then taken as ended; the next call shows whether there was more, and is charged like any other.

A model's reasoning that comes apart from its answer is paid for, and is not part of the chain.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec

from stepwise.backends.http.endpoint import Endpoint
from stepwise.backends.http.failures import check_name
from stepwise.backends.http.options import RemoteOptions
from stepwise.backends.http.pace import Pace
from stepwise.backends.http.reading import (
    ChatAnswer,
    ChatChoice,
    Said,
    chat_signals,
    counted,
    estimated,
    said,
    shaped,
)
from stepwise.backends.http.turns import CUT_OFF, OVERHEAD, write_turn
from stepwise.backends.options import ModelSpec
from stepwise.engine import signals
from stepwise.engine.backend import TEXT, Backend, Completion, Lost, Sampling, text_tokens, unaccounted
from stepwise.errors import BackendError, ConfigError, ContextOverflow, RequestRefused
from stepwise.types import Finish, Turn

MARK = "\ue000"
"""From a private use area of Unicode: ends the prompt."""
SPEAKERS = {"\ue001": "system", "\ue002": "user", "\ue003": "assistant"}
"""Marks that begin what somebody says, from the same area."""
UNMARKED = str.maketrans("", "", "".join((MARK, *SPEAKERS)))

CONTEXT = 100_000
"""Tokens, where the pair says nothing."""
MARGIN = 64
"""Tokens that a server's template may add to a prompt, of which three characters are taken for a token where
the context is nearly full."""

STOPPED = ("stop", "eos", "eos_token", "end_turn", "stop_sequence")
DECLINED = ("content_filter", "refusal", "safety")
CALLED = ("tool_calls", "function_call", "tool_use")
"""Reasons for the end of an answer, in the dialects of servers."""

DONE = "DONE"
NEXT_STEP = (
    "{question}\n\nThe solution so far, in steps:\n\n{steps}\n\n"
    "Write only the next step of this solution, in the same style, and nothing else. "
    f"If the solution above is complete and has stated its answer, write only {DONE}."
)
"""What a model is asked that cannot continue a message."""
DATED = re.compile(r"([-@:][\d-]+)?")
"""What a server may add to a model's name: the date of a version."""


class Options(RemoteOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a model behind a chat endpoint: where it is, and how it differs from the others.

    Attributes:
        continues: whether it can continue the assistant's message (vLLM, SGLang).
        logprobs: whether it returns log-probabilities; a model that writes drafts needs them.
        top_logprobs: alternatives per token to ask for; some refuse more than 5.
        max_tokens_field: how it calls its limit; OpenAI's newer models want "max_completion_tokens".
        answer_tokens: the longest answer that it writes in one call.
        omit: fields that it refuses, of "temperature", "top_p", "stop" and "seed".
        answers_as: names under which the model answers, beside the one that it is asked by.
        extra_body: more fields of every request.
    """

    continues: bool = False
    logprobs: bool = False
    top_logprobs: int = signals.TOP
    max_tokens_field: str = "max_tokens"
    answer_tokens: int = 4096
    omit: tuple[str, ...] = ()
    answers_as: tuple[str, ...] = ()
    extra_body: dict[str, Any] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in self.omit:
            if field not in ("temperature", "top_p", "stop", "seed"):
                raise ConfigError(f"omit must be of temperature, top_p, stop and seed, not {field!r}.")
        if not 2 <= self.top_logprobs <= signals.TOP:
            raise ConfigError(f"top_logprobs must be from 2 to {signals.TOP}, not {self.top_logprobs}.")
        if self.answer_tokens < 1:
            raise ConfigError(f"answer_tokens must be at least 1, not {self.answer_tokens}.")
        if taken := {"model", "messages", "n", "stream"} & self.extra_body.keys():
            raise ConfigError(f"extra_body must not set {', '.join(sorted(taken))}.")

    def open(self, model: ModelSpec) -> Backend:
        return self.connect(
            model,
            lambda endpoint, name, limit: ChatBackend(
                endpoint, name, options=self, revision=model.identity,
                context=self.context or limit or CONTEXT, parameters=model.parameters or 0,
            ),
        )  # fmt: skip

    def body(self, model: str, question: str, steps: str, sampling: Sampling) -> dict[str, Any]:
        """The request that continues ``steps``."""
        *messages, last = messages_of(question)
        asked = last["content"] if self.continues or not steps else _next_step(last["content"], steps)
        messages.append({"role": "user", "content": asked.strip()})
        body: dict[str, Any] = {
            "model": model,
            self.max_tokens_field: sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if self.continues and steps:
            messages.append({"role": "assistant", "content": steps})
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        if self.logprobs:
            body |= {"logprobs": True, "top_logprobs": self.top_logprobs}
        if sampling.temperature > 0.0:
            body["seed"] = sampling.seed
        for field in self.omit:
            body.pop(field, None)
        return body | self.extra_body | {"messages": messages}


class ChatBackend:
    """Runs one model behind ``/v1/chat/completions``.

    Args:
        endpoint: the server.
        model: its name there.
        options: how the server differs from others; by default it does not.
        context: in tokens, prompt and answer together.
        parameters: number of parameters of the model, for cost in FLOPs.
        revision: identifies the model; part of every store key.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        model: str,
        *,
        options: Options | None = None,
        context: int = CONTEXT,
        parameters: int = 0,
        revision: str = "",
    ) -> None:
        if context < 2:
            raise ConfigError(f"context must be at least 2 tokens, not {context}.")
        self.model = model
        self.context = context
        self.parameters = parameters
        self.tokenizer = TEXT
        self.forms = True
        self.revision = revision or f"{endpoint.base_url} {model}"
        self.endpoint = endpoint
        self.options = options or Options(base_url=endpoint.base_url)
        self.answer_tokens = self.options.answer_tokens
        self._pace = Pace()

    def encode(self, text: str, *, first: bool = True) -> tuple[int, ...]:
        return tuple(map(ord, text.translate(UNMARKED) + MARK * first))

    def converse(self, turns: Sequence[Turn]) -> tuple[int, ...]:
        marks = {role: mark for mark, role in SPEAKERS.items()}
        said = "".join(marks[turn.role] + turn.text.translate(UNMARKED) for turn in turns)
        return tuple(map(ord, said + MARK))

    async def generate(
        self, prefix: Sequence[int], sampling: Sampling, lost: Lost = unaccounted
    ) -> Completion:
        size = text_tokens(len(prefix))
        if size >= self.context:
            raise ContextOverflow(f"the chain has about {size} tokens, the context is {self.context}.")
        with self._pace.watch(size, sampling.max_tokens, lost) as call:
            completion = await self._complete("".join(map(chr, prefix)), sampling, lost)
            call.finished(completion.usage)
        return completion

    async def _complete(self, prefix: str, sampling: Sampling, lost: Lost) -> Completion:
        where, size = self.endpoint.base_url, text_tokens(len(prefix))
        most = max(1, min(sampling.max_tokens, self.context - len(prefix) // 3 - MARGIN))
        sampling = replace(sampling, max_tokens=most)
        question, _, steps = prefix.partition(MARK)
        body = self.options.body(self.model, question, steps, sampling)
        if (form := sampling.form) is not None:
            return await write_turn(self.endpoint, "/chat/completions", body, form, most, self.context, lost)
        answer = shaped(await self.endpoint.post("/chat/completions", body), ChatAnswer, where)
        message = said(answer.choices[0].message)
        usage = counted(answer.usage, where, prompt=max(self.context, OVERHEAD * size), completion=most)
        usage = usage or estimated(size, message.text, most)
        try:
            self._check(answer, message)
            text, finish = self._end(
                message.text.translate(UNMARKED), answer.choices[0], sampling, begun=bool(steps)
            )
        except BackendError:
            lost(usage)
            raise
        if finish == "stop" and len(text) < len(message.text):
            usage = usage.discard(usage.completion - round(usage.completion * len(text) / len(message.text)))
        logprobs = answer.choices[0].logprobs if self.options.logprobs else None
        measured = chat_signals(logprobs, usage.completion + usage.discarded)
        return Completion(text, self.encode(text, first=False), usage, measured, finish)

    async def close(self) -> None:
        await self.endpoint.close()

    def _check(self, answer: ChatAnswer, message: Said) -> None:
        """Refuse an answer of another model, and what is no answer."""
        where, reason = self.endpoint.base_url, answer.choices[0].finish_reason
        if answer.model is not None:
            names = (self.model, *self.options.answers_as)
            same = any(
                answer.model.startswith(name) and DATED.fullmatch(answer.model[len(name) :]) for name in names
            )
            check_name(where, self.model if same else answer.model, *names)
        if reason in DECLINED or (message.declined and not message.text):
            raise RequestRefused(f"{where}: the model declined to answer.")
        if reason in CALLED or (message.called and not message.text):
            raise RequestRefused(f"{where}: the model called a tool, and has none here.")
        if reason in CUT_OFF and not message.text:
            raise RequestRefused(f"{where}: the model spent its tokens thinking; raise max_step_tokens.")
        if reason is not None and reason not in (*STOPPED, *CUT_OFF):
            raise BackendError(f"{where} ended an answer for a reason that is not known.", retryable=True)

    def _end(self, text: str, choice: ChatChoice, sampling: Sampling, *, begun: bool) -> tuple[str, Finish]:
        """The step with the separator that servers leave out, and how it ended."""
        cut_off = choice.finish_reason in CUT_OFF
        if cut_off or "stop" in self.options.omit:
            count, finish = sampling.ends.cut(text, "length" if cut_off else "end", limit=1)
            if cut_off or finish == "stop":
                return text[:count], finish
        if not self.options.continues and begun and text.strip() == DONE:
            return "", "end"
        if not text.strip() or not sampling.stop or "stop" in self.options.omit or _closed(choice):
            return text, "end"
        return text.removesuffix(sampling.stop[0]) + sampling.stop[0], "stop"


def _closed(choice: ChatChoice) -> bool:
    """Whether the server says that the model itself ended its answer: with a token, or with nothing at
    all."""
    cause = choice.matched_stop if choice.stop_reason is msgspec.UNSET else choice.stop_reason
    return cause is None or isinstance(cause, int)


def messages_of(prompt: str) -> list[dict[str, str]]:
    """The messages of a prompt: the turns of a conversation, or one question."""
    if prompt[:1] not in SPEAKERS:
        return [{"role": "user", "content": prompt}]
    said = re.findall(f"([{''.join(SPEAKERS)}])([^{''.join(SPEAKERS)}]*)", prompt)
    return [{"role": SPEAKERS[mark], "content": text} for mark, text in said]


def _next_step(question: str, steps: str) -> str:
    return NEXT_STEP.replace("{question}", question.strip()).replace("{steps}", steps.strip())
