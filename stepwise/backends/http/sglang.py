"""SGLang's server over HTTP: its own ``/generate``, with token ids in both directions.

Every answer and every event says how many tokens of the prompt were cached and how many were written, so that
a stream that is stopped is counted up to the last event that arrived.

An event of a stream holds everything from the beginning, or (``--incremental-streaming-output``) what is new;
``completion_tokens`` counts from the beginning either way, and tells which of the two it is. So only a
generation that somebody reads along is streamed: a whole answer is sent once.

Probabilities of a sampled token are those after temperature, unless the server runs with
``SGLANG_RETURN_ORIGINAL_LOGPROB=1``; a seed is heeded with ``--enable-deterministic-inference``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, ClassVar

from msgspec import Struct

from stepwise.backends.http.endpoint import Endpoint
from stepwise.backends.http.failures import Unanswered, garbage
from stepwise.backends.http.options import LOOK_S
from stepwise.backends.http.reading import Count, TokenId, maybe, shaped
from stepwise.backends.http.tokens import AnswersWhole, TokenOptions
from stepwise.backends.options import ModelSpec
from stepwise.engine import signals
from stepwise.engine.backend import Backend, Chunk, Completion, Lost, Sampling, room
from stepwise.errors import BackendError
from stepwise.types import Finish, Usage

SEEDS = 2**31

PLAIN = {
    "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "frequency_penalty": 0.0, "presence_penalty": 0.0,
}  # fmt: skip
"""The model's own distribution: a server may have been started with other defaults."""


class Options(TokenOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a model on an SGLang server, whose ``base_url`` is its root, without ``/v1``."""

    api: ClassVar[str] = "/v1"

    def open(self, model: ModelSpec) -> Backend:
        return self.run_as(SglangBackend, model, "sglang")

    def served(self, model: ModelSpec, endpoint: Endpoint) -> tuple[str, int | None]:
        """A server has one model and is not told its name: it is checked if one is given."""
        if self.served_name:
            return super().served(model, endpoint)
        known = endpoint.served_models(LOOK_S, self.api) or {}
        return "", next(iter(known.values()), None)


class Ended(Struct):
    """Why a generation ended; ``matched`` is the stop string, or the token that ends answers."""

    type: str
    matched: Any = None


class Meta(Struct):
    """Counts are from the beginning of the generation."""

    prompt_tokens: Count
    completion_tokens: Count
    cached_tokens: Count
    finish_reason: Ended | None = None
    output_token_logprobs: Any = None
    output_top_logprobs: Any = None


class Answer(Struct):
    """An answer of ``/generate``, or an event of its stream."""

    output_ids: list[TokenId]
    meta_info: Meta


Token = tuple[float, TokenId, Any]
"""Log-probability, id, and a text that is not asked for."""


class SglangBackend(AnswersWhole):
    """Runs one model on an SGLang server."""

    async def complete(self, prefix: Sequence[int], sampling: Sampling, lost: Lost) -> Completion:
        where, body = self.endpoint.base_url, self.body(prefix, sampling)
        answer = shaped(await self.endpoint.post("/generate", body), Answer, where)
        usage = self.counted(answer.meta_info, len(prefix), body)
        finish, ids = self.finish(answer.meta_info, sampling), tuple(answer.output_ids)
        if len(ids) != usage.completion or finish is None:
            raise garbage(where, f"has {len(ids)} token ids, counts {usage.completion}, or has no end")
        if not ids:
            lost(usage)
            raise BackendError(f"{where} wrote nothing.", retryable=True)
        chosen, top = logprobs(answer.meta_info, len(ids))
        return self.completion(prefix, sampling, ids, finish, usage, chosen, top)

    def begin(self, prefix: Sequence[int], sampling: Sampling) -> SglangGeneration:
        return SglangGeneration(self, prefix, sampling)

    def body(self, prefix: Sequence[int], sampling: Sampling) -> dict[str, Any]:
        return generate_body(prefix, sampling, room(prefix, self.context))

    def counted(self, meta: Meta, prompt: int, body: dict[str, Any]) -> Usage:
        """What the server says that it took so far.

        Raises:
            BackendError: if that cannot be true, or it was given another prompt.
        """
        where, limit = self.endpoint.base_url, body["sampling_params"]["max_new_tokens"]
        if meta.prompt_tokens != prompt:
            raise Unanswered(f"{where} read a prompt of {meta.prompt_tokens} tokens; it was sent {prompt}.")
        if meta.completion_tokens > limit:
            raise Unanswered(f"{where} wrote more than the {limit} tokens that it was asked for.")
        if meta.cached_tokens > prompt:
            raise garbage(where, "counts more cached tokens than the prompt has")
        return Usage(prompt, meta.cached_tokens, meta.completion_tokens)

    def finish(self, meta: Meta, sampling: Sampling) -> Finish | None:
        """A stop string is named, the end of the answer is a token.

        Raises:
            BackendError: if the server gave up, or stopped for a reason of its own.
        """
        ended = meta.finish_reason
        if ended is None or ended.type == "length":
            return "length" if ended else None
        if ended.type == "abort":
            raise Unanswered(f"{self.endpoint.base_url} broke the generation off.", retryable=True)
        if ended.type != "stop" or (isinstance(ended.matched, str) and ended.matched not in sampling.stop):
            raise garbage(self.endpoint.base_url, "ended for a reason that is neither stop nor length")
        return "stop" if isinstance(ended.matched, str) else "end"


def generate_body(prefix: Sequence[int], sampling: Sampling, most: int) -> dict[str, Any]:
    """The request that continues ``prefix`` with at most so many tokens."""
    seed = {"sampling_seed": sampling.seed % SEEDS} if sampling.temperature > 0.0 else {}
    return {
        "input_ids": list(prefix),
        "sampling_params": {
            **PLAIN,
            "max_new_tokens": min(sampling.max_tokens, most),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "stop": list(sampling.stop),
            **seed,
        },
        "return_logprob": True,
        "top_logprobs_num": signals.TOP,
    }


class SglangGeneration:
    """A streamed generation; stopping it closes the connection, which makes the server abort.

    Attributes:
        prompt: tokens of the prefix, and how many of them were cached, from the first event on.
    """

    unread = 0
    """What the server wrote after the last event that arrived, a few tokens at most, nobody knows."""

    def __init__(self, backend: SglangBackend, prefix: Sequence[int], sampling: Sampling) -> None:
        self.prompt = Usage()
        self._backend = backend
        self._length = len(prefix)
        self._sampling = sampling
        self._body = backend.body(prefix, sampling) | {"stream": True}
        self._events: AsyncIterator[Any] | None = None
        self._read = 0

    async def read(self, mark: str = "", limit: int = 1) -> Chunk:
        where = self._backend.endpoint.base_url
        if self._events is None:
            self._events = self._backend.endpoint.stream("/generate", self._body)
        async for value in self._events:
            answer = shaped(value, Answer, where)
            meta = answer.meta_info
            usage = self._backend.counted(meta, self._length, self._body)
            finish = self._backend.finish(meta, self._sampling)
            self.prompt = Usage(prompt=usage.prompt, cached=usage.cached)
            known = self._known(len(answer.output_ids), usage.completion)
            chosen, top = logprobs(meta, len(answer.output_ids))
            ids = tuple(answer.output_ids[known:])
            self._read = usage.completion
            if finish is not None and not self._read:
                raise BackendError(f"{where} wrote nothing.", retryable=True)
            if ids or finish is not None:
                return Chunk(ids, chosen[known:], top[known:], finish)
        raise BackendError(f"{where} ended a stream too early.", retryable=True)

    def _known(self, shown: int, written: int) -> int:
        """How many of the tokens that an event shows had been read.

        Raises:
            BackendError: if an event was lost or came twice.
        """
        if shown not in (written, written - self._read) or written < self._read:
            raise garbage(self._backend.endpoint.base_url, "shows other tokens than it counts")
        return self._read if shown == written else 0

    async def stop(self) -> None:
        events, self._events = self._events, None
        if events is not None:
            await events.aclose()  # type: ignore[attr-defined]


def logprobs(meta: Meta, tokens: int) -> tuple[list[float], list[list[float]]]:
    """Log-probabilities of tokens, and for each the likeliest ones in falling order; NaN where they are not
    told, which `signals.measure` takes as no signal."""
    chosen = maybe(meta.output_token_logprobs, list[Token])
    top = maybe(meta.output_top_logprobs, list[list[Token]])
    if chosen is None or top is None or not len(chosen) == len(top) == tokens:
        return [float("nan")] * tokens, [[]] * tokens
    return [token[0] for token in chosen], [sorted((t[0] for t in row), reverse=True) for row in top]
