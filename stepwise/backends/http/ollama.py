"""Ollama over HTTP: its own ``/api/generate`` with ``raw``, text in both directions.

The prompt goes to the model as it stands, without a template of the server's, and what a model has written
is continued by sending it again. The state is text, as behind a chat endpoint: what stands for a token id
here is a character. What a call took is the server's count of tokens (``prompt_eval_count``,
``eval_count``); how many of them were in its cache it does not tell, so none count as cached.

``done_reason`` is "stop" for a stop string and for the end of the answer, and the stop string is cut away.
The token that ended it had text, if probabilities of all tokens came: then it was a stop string. Otherwise
the model is asked for one more token, greedily and without stop strings: if it writes nothing, the answer
has ended. That call is charged, its token as discarded.

Tokens without text of their own (the end of the answer, a stop string, half a character) come without
probabilities: the signals of a step are those of its other tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from msgspec import Struct

from stepwise.backends.http.endpoint import Endpoint
from stepwise.backends.http.failures import check_name, garbage
from stepwise.backends.http.options import RemoteOptions
from stepwise.backends.http.pace import Pace
from stepwise.backends.http.reading import ChatToken, Count, estimated, maybe, shaped
from stepwise.backends.options import ModelSpec
from stepwise.engine import signals
from stepwise.engine.backend import TEXT, Backend, Completion, Lost, Sampling, text_tokens, unaccounted
from stepwise.errors import BackendError, ConfigError, ContextOverflow
from stepwise.types import Finish, Signals, Usage

CONTEXT = 4096
"""Tokens, where the pair says nothing."""

PLAIN = {
    "top_k": 0, "min_p": 0.0, "typical_p": 1.0, "repeat_penalty": 1.0, "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}  # fmt: skip
"""The model's own distribution: a model's file may say otherwise."""


class Options(RemoteOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a model of Ollama, whose ``base_url`` is its root, without ``/v1``.

    Attributes:
        answer_tokens: the longest answer that it writes in one call.
    """

    api: ClassVar[str] = "/v1"

    answer_tokens: int = 4096

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.answer_tokens < 1:
            raise ConfigError(f"answer_tokens must be at least 1, not {self.answer_tokens}.")

    def open(self, model: ModelSpec) -> Backend:
        return self.connect(
            model,
            lambda endpoint, name, _: OllamaBackend(
                endpoint, name, context=self.context or CONTEXT, parameters=model.parameters or 0,
                revision=model.identity, answer_tokens=self.answer_tokens,
            ),
        )  # fmt: skip

    def name_of(self, model: ModelSpec) -> str:
        """With the tag that a name without one stands for."""
        name = super().name_of(model)
        return name if ":" in name else f"{name}:latest"


class Answer(Struct):
    """An answer of ``/api/generate``. It is not ``done``, and counts nothing, if Ollama broke it off because
    a token came thirty times in a row."""

    model: str
    response: str
    done: bool
    done_reason: str = ""
    prompt_eval_count: Count | None = None
    eval_count: Count | None = None
    logprobs: Any = None


class OllamaBackend:
    """Runs one model of Ollama.

    Args:
        endpoint: the server.
        model: its name there, with its tag.
        context: in tokens, prompt and answer together; the server loads the model with as much.
        parameters: number of parameters of the model, for cost in FLOPs.
        revision: identifies the model; part of every store key.
        answer_tokens: the longest answer that it writes in one call.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        model: str,
        *,
        context: int = CONTEXT,
        parameters: int = 0,
        revision: str = "",
        answer_tokens: int = 4096,
    ) -> None:
        self.model = model
        self.context = context
        self.parameters = parameters
        self.tokenizer = TEXT
        self.revision = revision or f"{endpoint.base_url} {model}"
        self.endpoint = endpoint
        self.answer_tokens = answer_tokens
        self._pace = Pace()

    def encode(self, text: str, *, first: bool = True) -> tuple[int, ...]:
        return tuple(map(ord, text))

    async def generate(
        self, prefix: Sequence[int], sampling: Sampling, lost: Lost = unaccounted
    ) -> Completion:
        prompt = "".join(map(chr, prefix))
        answer, usage = await self._call(prompt, sampling, lost)
        try:
            check_name(self.endpoint.base_url, answer.model, self.model)
            finish, asked = await self._finish(prompt, answer, sampling, lost)
            if not answer.response and finish == "length":
                raise BackendError(f"{self.endpoint.base_url} wrote nothing that has a text.")
        except (asyncio.CancelledError, BackendError):
            lost(usage)
            raise
        measured = measure(answer, usage.completion)
        whole = answer.response + (sampling.stop[0] if finish == "stop" else "")
        count, ended = sampling.ends.cut(whole, finish, limit=1)
        text = whole[:count]
        behind = max(0, len(answer.response) - count) / max(1, len(answer.response))
        usage = usage.discard(round(usage.completion * behind)) + asked
        return Completion(text, self.encode(text, first=False), usage, measured, ended)

    async def close(self) -> None:
        await self.endpoint.close()

    async def _call(self, prompt: str, sampling: Sampling, lost: Lost) -> tuple[Answer, Usage]:
        size = text_tokens(len(prompt))
        if size >= self.context:
            raise ContextOverflow(f"the chain has about {size} tokens, the context is {self.context}.")
        with self._pace.watch(size, sampling.max_tokens, lost) as call:
            body = self.body(prompt, sampling)
            answer = shaped(await self.endpoint.post("/api/generate", body), Answer, self.endpoint.base_url)
            usage = self._counted(answer, size, sampling.max_tokens)
            call.finished(usage)
        return answer, usage

    def body(self, prompt: str, sampling: Sampling) -> dict[str, Any]:
        """The request that continues ``prompt``, which is refused rather than shortened if it is too long.
        ``think`` would take a model's thinking out of its text."""
        options: dict[str, Any] = {
            **PLAIN,
            "num_ctx": self.context,
            "num_predict": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "stop": list(sampling.stop),
        }
        return {
            "model": self.model,
            "prompt": prompt,
            "raw": True,
            "stream": False,
            "think": False,
            "truncate": False,
            "shift": False,
            "logprobs": True,
            "top_logprobs": signals.TOP,
            "options": options | ({"seed": sampling.seed} if sampling.temperature > 0.0 else {}),
        }

    def _counted(self, answer: Answer, size: int, limit: int) -> Usage:
        if answer.prompt_eval_count is None or answer.eval_count is None:
            return estimated(size, answer.response, limit)
        if answer.prompt_eval_count > self.context or answer.eval_count > limit:
            raise garbage(
                self.endpoint.base_url,
                f"counts more tokens than the {self.context} and {limit} that there can be",
            )
        return Usage(prompt=answer.prompt_eval_count, completion=answer.eval_count)

    async def _finish(
        self, prompt: str, answer: Answer, sampling: Sampling, lost: Lost
    ) -> tuple[Finish, Usage]:
        """How a generation ended, and what it took to find out."""
        if not answer.done or answer.done_reason == "length":
            return "length", Usage()
        if answer.done_reason != "stop":
            raise garbage(self.endpoint.base_url, "ended for a reason that is neither stop nor length")
        if not sampling.stop:
            return "end", Usage()
        if answer.eval_count and len(probabilities(answer)) == answer.eval_count:
            return "stop", Usage()
        more, usage = await self._call(prompt + answer.response, Sampling(max_tokens=1), lost)
        return "stop" if more.response else "end", usage.rejected()


def probabilities(answer: Answer) -> list[ChatToken]:
    """Of the tokens that have a text of their own, as far as they are told."""
    return maybe(answer.logprobs, list[ChatToken]) or []


def measure(answer: Answer, tokens: int) -> Signals:
    """Signals of an answer of so many tokens."""
    rows = probabilities(answer)
    if not rows:
        return signals.missing(tokens)
    top = [sorted((other.logprob for other in row.top_logprobs), reverse=True) for row in rows]
    return replace(signals.measure([row.logprob for row in rows], top), length=tokens)
