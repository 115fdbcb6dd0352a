"""llama.cpp's server over HTTP: its own ``/completion``, with token ids in both directions.

Every call is read as a stream. An answer in one piece leaves out the probabilities of the tokens that
complete a stop string, which a step's separator is; a stream has them. Two things a stream does not show:

- Tokens that end inside a character. Their ids are those that the tokenizer gives the character; their
  probabilities are unknown, so a step with such a character has no signal.
- What the server wrote after the last token that arrived, where it is stopped: a few tokens, not counted.

``tokens_cached`` is what the slot holds at the end, prompt and completion together. What was found in the
cache is the prompt (``tokens_evaluated``) without what was computed (``timings.prompt_n``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgspec

from stepwise.backends import checkpoint
from stepwise.backends.http.endpoint import Endpoint
from stepwise.backends.http.failures import Unanswered, check_name, garbage
from stepwise.backends.http.options import LOOK_S
from stepwise.backends.http.reading import LlamaEvent, llama_logprobs, shaped
from stepwise.backends.http.tokens import TokenOptions, TokenServer
from stepwise.backends.options import ModelSpec
from stepwise.engine import signals
from stepwise.engine.backend import Backend, Chunk, Completion, Lost, Sampling, room, unaccounted
from stepwise.errors import BackendError
from stepwise.types import Finish, Usage

FINISHES: dict[str, Finish] = {"eos": "end", "limit": "length", "word": "stop"}
"""What ``stop_type`` means."""

RANDOM_SEED = 2**32 - 1
"""The one seed that stands for none."""

PLAIN = {
    "samplers": ["temperature", "top_p"], "top_k": 0, "min_p": 0.0, "typical_p": 1.0, "repeat_penalty": 1.0,
    "presence_penalty": 0.0, "frequency_penalty": 0.0, "dry_multiplier": 0.0, "xtc_probability": 0.0,
    "mirostat": 0,
}  # fmt: skip
"""The model's own distribution: the server's defaults, which its command line can change, bend it."""


class Options(TokenOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a model on a llama-server. ``base_url`` is its root; a ``/v1`` behind it is left out."""

    def open(self, model: ModelSpec) -> Backend:
        tokenizer = self.tokenizer_of(model, "llama-server")
        return self.connect(
            model,
            lambda endpoint, _, limit: LlamaBackend(
                endpoint, self.served_name, tokenizer=tokenizer, parameters=model.parameters or 0,
                context=self.context or slot_context(endpoint) or limit or checkpoint.context(tokenizer),
                revision=model.identity,
            ),
        )  # fmt: skip

    def endpoint(self, url: str) -> Endpoint:
        """A connection a call: the server closes one after a stream, and says that it keeps it."""
        return super().endpoint(url.rstrip("/").removesuffix("/v1")).closing()

    def served(self, model: ModelSpec, endpoint: Endpoint) -> tuple[str, int | None]:
        """A llama-server serves one model and need not be told its name: it is checked if one is given."""
        return super().served(model, endpoint) if self.served_name else ("", None)


class Defaults(msgspec.Struct):
    n_ctx: int


class Properties(msgspec.Struct):
    default_generation_settings: Defaults


def slot_context(endpoint: Endpoint) -> int | None:
    """Tokens that one slot of the server holds; None where it does not tell now."""
    with suppress(BackendError):
        properties = shaped(endpoint.look("/props", LOOK_S), Properties, endpoint.base_url)
        return max(properties.default_generation_settings.n_ctx, 0) or None
    return None


class LlamaBackend(TokenServer):
    """Runs one model on a llama-server. Its name may be "" where the server has only one, and its context is
    that of one slot."""

    forms = True

    async def generate(
        self, prefix: Sequence[int], sampling: Sampling, lost: Lost = unaccounted
    ) -> Completion:
        if sampling.form is not None:
            path = "/v1/chat/completions"
            return await self.write_turn(path, prefix, sampling, sampling.form, lost, **PLAIN)
        generation = self.begin(prefix, sampling)
        ids: list[int] = []
        chosen: list[float] = []
        top: list[Sequence[float]] = []
        finish: Finish | None = None
        try:
            while finish is None:
                chunk = await generation.read()
                ids += chunk.token_ids
                chosen += chunk.logprobs
                top += chunk.top
                finish = chunk.finish
        except (asyncio.CancelledError, BackendError) as error:
            lost(generation.spent(unanswered=isinstance(error, asyncio.CancelledError | Unanswered)))
            raise
        finally:
            await generation.stop()
        return self.completion(prefix, sampling, tuple(ids), finish, generation.spent(), chosen, top)

    def begin(self, prefix: Sequence[int], sampling: Sampling) -> LlamaGeneration:
        limit = min(sampling.max_tokens, room(prefix, self.context))
        return LlamaGeneration(self, len(prefix), completion_body(self.model, prefix, sampling, limit))


def completion_body(model: str, prefix: Sequence[int], sampling: Sampling, limit: int) -> dict[str, Any]:
    """The request that continues ``prefix``. Probabilities are the model's own, before temperature."""
    body: dict[str, Any] = {
        **PLAIN,
        "prompt": list(prefix),
        "n_predict": limit,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "stop": list(sampling.stop),
        "n_probs": signals.TOP,
        "return_tokens": True,
        "cache_prompt": True,
        "timings_per_token": True,
        "stream": True,
    }
    seed = {"seed": sampling.seed % RANDOM_SEED} if sampling.temperature > 0.0 else {}
    return body | seed | ({"model": model} if model else {})


class LlamaGeneration:
    """A streamed completion; stopping it closes the connection, which makes the server abort.

    Attributes:
        prompt: tokens of the prefix, and how many of them were cached, from the first token on.
    """

    def __init__(self, backend: LlamaBackend, length: int, body: dict[str, Any]) -> None:
        self.prompt = Usage()
        self._backend = backend
        self._length = length
        self._body = body
        self._limit = int(body["n_predict"])
        self._events: AsyncIterator[Any] | None = None
        self._read = 0
        self._held = Chunk((), (), ())
        self._tail = 0

    @property
    def unread(self) -> int:
        """Tokens that arrived and were not handed over, and those at the end that the server counts and does
        not show: half a character."""
        return self._tail + len(self._held.token_ids)

    def spent(self, *, unanswered: bool = False) -> Usage:
        """What it took so far. A request without an answer counts as its prompt, estimated."""
        if unanswered and not self.prompt.prompt and self._events is not None:
            return Usage(prompt=self._length, estimated=self._length)
        return self.prompt + Usage(completion=self._read + self._tail)

    async def read(self, mark: str = "", limit: int = 1) -> Chunk:
        where = self._backend.endpoint.base_url
        if self._events is None:
            self._events = self._backend.endpoint.stream("/completion", self._body)
        async for value in self._events:
            event = shaped(value, LlamaEvent, where)
            self._count(event, where)
            if event.stop:
                return self._last(event, where)
            if self._shown(event, where):
                return self._take()
        raise Unanswered(f"{where} ended a stream too early.", retryable=True)

    def _shown(self, event: LlamaEvent, where: str) -> bool:
        """Take an event's token, and say whether it can be handed over: a token without text may be the end
        of the answer, which belongs to the last chunk."""
        ids = self._ids(event, where)
        if ids:
            logprob, top = llama_logprobs(event)
            hidden = len(ids) - 1
            held = self._held
            self._held = Chunk(
                (*held.token_ids, *ids),
                (*held.logprobs, *[float("nan")] * hidden, logprob),
                (*held.top, *[[]] * hidden, top),
            )
            self._read += len(ids)
        return bool(ids and event.content)

    def _take(self) -> Chunk:
        chunk, self._held = self._held, Chunk((), (), ())
        return chunk

    def _ids(self, event: LlamaEvent, where: str) -> tuple[int, ...]:
        """The token of an event, after those before it that ended inside a character.

        Raises:
            BackendError: if an event was lost or came twice, or the tokens cannot be known.
        """
        new = event.tokens_predicted - self._read
        if not event.tokens and not new:
            return ()
        if new < 1 or len(event.tokens) != 1:
            raise garbage(where, "shows other tokens than it counts")
        if new == 1:
            return tuple(event.tokens)
        ids = self._backend.encode(event.content, first=False)[-new:]
        if len(ids) != new or ids[-1] != event.tokens[0]:
            raise BackendError(f"{where} did not show {new - 1} tokens that it wrote.")
        return ids

    def _count(self, event: LlamaEvent, where: str) -> None:
        """What the server says that it took.

        Raises:
            BackendError: if that cannot be true, or it was given another prompt.
        """
        if event.tokens_evaluated != self._length:
            raise BackendError(
                f"{where} read a prompt of {event.tokens_evaluated} tokens; it was sent {self._length}."
            )
        if event.tokens_predicted > self._limit:
            raise BackendError(f"{where} wrote more than the {self._limit} tokens that it was asked for.")
        computed = event.timings.prompt_n if event.timings else self._length - self.prompt.cached
        if computed > self._length:
            raise garbage(where, "counts more computed tokens than the prompt has")
        self.prompt = Usage(prompt=self._length, cached=self._length - computed)

    def _last(self, event: LlamaEvent, where: str) -> Chunk:
        if event.stop_type not in FINISHES:
            raise garbage(where, "ended for a reason that is neither eos, limit nor word")
        if self._backend.model:
            check_name(where, event.model, self._backend.model)
        finish, tail = FINISHES[event.stop_type], event.tokens_predicted - self._read
        if tail < 0 or (tail and finish != "length"):
            raise garbage(where, "shows other tokens than it counts")
        self._tail = tail
        if not self._read:
            raise BackendError(f"{where} wrote nothing.", retryable=not tail)
        return replace(self._take(), finish=finish)

    async def stop(self) -> None:
        events, self._events = self._events, None
        if events is not None:
            await events.aclose()  # type: ignore[attr-defined]
