"""vLLM's OpenAI server over HTTP: ``/v1/completions`` with token ids in both directions.

Token ids keep a chain's prefix exactly as it was generated, so that the server finds it in its prefix
cache. One call a step is counted exactly, because every answer says what was computed. A generation that
is read while it goes on is faster, but when it is stopped the server neither says how much of the prompt
it had cached nor how many tokens it wrote after the last one that arrived: the first is counted as
nothing, the second (a few tokens at most) is not counted.

For cached tokens the server has to be started with ``--enable-prompt-tokens-details``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from stepwise.backends.http.failures import check_name, garbage
from stepwise.backends.http.reading import (
    CompletionAnswer,
    CompletionChoice,
    counted,
    prompt_logprobs,
    shaped,
    token_logprobs,
)
from stepwise.backends.http.tokens import AnswersWhole, TokenOptions
from stepwise.backends.options import ModelSpec
from stepwise.engine import signals
from stepwise.engine.backend import Backend, Chunk, Completion, Lost, Sampling, only_read, room
from stepwise.errors import BackendError
from stepwise.types import Finish, Usage


class Options(TokenOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a model on a vLLM server."""

    def open(self, model: ModelSpec) -> Backend:
        return self.run_as(CompletionsBackend, model, "vllm-server")


class CompletionsBackend(AnswersWhole):
    """Runs one model on a vLLM server, which reads a whole prefix anew where it is asked how likely its end
    is."""

    reads = True
    forms = True

    async def complete(self, prefix: Sequence[int], sampling: Sampling, lost: Lost) -> Completion:
        if (form := sampling.form) is not None:
            return await self.write_turn("/chat/completions", prefix, sampling, form, lost)
        where, body = self.endpoint.base_url, self._body(prefix, sampling)
        answer = shaped(await self.endpoint.post("/completions", body), CompletionAnswer, where)
        counts = counted(answer.usage, where, prompt=self.context, completion=body["max_tokens"])
        if not answer.choices:
            raise garbage(where, "has no choices")
        choice = answer.choices[0]
        generated, finish = tuple(choice.token_ids or ()), finish_of(choice, where)
        counts = counts or Usage(prompt=len(prefix), completion=len(generated))
        try:
            self.check(answer.model, len(generated))
        except BackendError:
            lost(counts)
            raise
        if len(generated) != counts.completion:
            raise garbage(where, f"has {len(generated)} token ids and counts {counts.completion}")
        if sampling.read:
            return only_read(counts, prompt_logprobs(choice, prefix, sampling.read))
        chosen, top = token_logprobs(choice, len(generated))
        return self.completion(prefix, sampling, generated, finish or "length", counts, chosen, top)

    def begin(self, prefix: Sequence[int], sampling: Sampling) -> CompletionsGeneration:
        body = self._body(prefix, sampling)
        return CompletionsGeneration(self, len(prefix), body)

    def _body(self, prefix: Sequence[int], sampling: Sampling) -> dict[str, Any]:
        return completion_body(self.model, prefix, sampling, room(prefix, self.context))

    def check(self, name: str, tokens: int) -> None:
        """Refuse an answer of another model, and an empty one."""
        check_name(self.endpoint.base_url, name, self.model)
        if not tokens:
            raise BackendError(f"{self.endpoint.base_url} wrote nothing.", retryable=True)


def completion_body(model: str, prefix: Sequence[int], sampling: Sampling, most: int) -> dict[str, Any]:
    """The request that continues ``prefix`` with at most so many tokens."""
    body: dict[str, Any] = {
        "model": model,
        "prompt": list(prefix),
        "max_tokens": min(sampling.max_tokens, most),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "stop": list(sampling.stop),
        "include_stop_str_in_output": True,
        "logprobs": signals.TOP,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }
    if sampling.read:
        body |= {"max_tokens": 1, "stop": [], "prompt_logprobs": signals.TOP}
    return body | ({"seed": sampling.seed} if sampling.temperature > 0.0 else {})


class CompletionsGeneration:
    """A streamed completion; stopping it closes the connection, which makes the server abort."""

    unread = 0
    """What the server wrote after the last token that arrived, a few tokens at most, nobody knows."""

    def __init__(self, backend: CompletionsBackend, prompt: int, body: dict[str, Any]) -> None:
        self.prompt = Usage()
        self._length = prompt
        self._backend = backend
        self._limit = int(body["max_tokens"])
        self._body = body | {"stream": True, "stream_options": {"include_usage": True}}
        self._events: AsyncIterator[Any] | None = None
        self._read = 0

    async def read(self, mark: str = "", limit: int = 1) -> Chunk:
        where = self._backend.endpoint.base_url
        if self._events is None:
            self._events = self._backend.endpoint.stream("/completions", self._body)
        async for event in self._events:
            answer = shaped(event, CompletionAnswer, where)
            if not answer.choices:
                continue
            choice = answer.choices[0]
            ids, finish = tuple(choice.token_ids or ()), finish_of(choice, where)
            if not ids and finish is None:
                continue
            self._backend.check(answer.model, len(ids) or bool(finish))
            self._read += len(ids)
            if self._read > self._limit:
                raise BackendError(
                    f"{where} streamed more than the {self._limit} tokens that it was asked for."
                )
            self.prompt = replace(self.prompt, prompt=self._length)
            if finish is not None:
                await self._count(self._events)
            return Chunk(ids, *token_logprobs(choice, len(ids)), finish)
        raise BackendError(f"{where} ended a stream too early.", retryable=True)

    async def _count(self, events: AsyncIterator[Any]) -> None:
        """The server counts after the last token. Without that, or cut off there, nothing was cached.
        A stream that is read to its end leaves the connection to the next call.

        Raises:
            BackendError: if an event was lost or came twice: what has been read is not what was written.
        """
        where, counts = self._backend.endpoint.base_url, None
        with suppress(BackendError):
            async for event in events:
                usage = shaped(event, CompletionAnswer, where).usage
                counts = counted(usage, where, prompt=self._backend.context, completion=self._limit) or counts
        if counts is None:
            return
        if counts.completion != self._read:
            raise BackendError(f"{where} streamed {self._read} tokens and counted {counts.completion}.")
        self.prompt = replace(self.prompt, cached=min(counts.cached, self._length))

    async def stop(self) -> None:
        events, self._events = self._events, None
        if events is not None:
            await events.aclose()  # type: ignore[attr-defined]


def finish_of(choice: CompletionChoice, where: str) -> Finish | None:
    """A stop string is named, the end of the answer is a token or nothing."""
    if choice.finish_reason is None:
        return None
    if choice.finish_reason == "length":
        return "length"
    if choice.finish_reason != "stop":
        raise garbage(where, "ended for a reason that is neither stop nor length")
    return "stop" if isinstance(choice.stop_reason, str) else "end"
