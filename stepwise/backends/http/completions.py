"""vLLM's OpenAI server over HTTP: ``/v1/completions`` with token ids in both directions.

Token ids keep a chain's prefix exactly as it was generated, so that the server finds it in its prefix
cache. One call a step is counted exactly, because every answer says what was computed. A generation that
is read while it goes on is faster, but when it is stopped the server neither says how much of the prompt
it had cached nor how many tokens it wrote after the last one that arrived: the first is counted as
nothing, the second (a few tokens at most) is not counted.

For cached tokens the server has to be started with ``--enable-prompt-tokens-details``.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from stepwise.backends import checkpoint
from stepwise.backends.http.endpoint import Endpoint, Unanswered, cached_tokens
from stepwise.backends.http.options import RemoteOptions
from stepwise.backends.http.pace import Pace
from stepwise.backends.options import ModelSpec
from stepwise.backends.tokenized import Tokenized
from stepwise.engine import signals
from stepwise.engine.backend import Backend, Chunk, Completion, Lost, Sampling, room, unaccounted
from stepwise.engine.lookahead import OVERLAP
from stepwise.errors import BackendError, ConfigError
from stepwise.types import Finish, Usage


class Options(RemoteOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a model on a vLLM server.

    Attributes:
        tokenizer: folder or hub id of its tokenizer; by default the model's path.
    """

    tokenizer: str = ""

    def open(self, model: ModelSpec) -> Backend:
        tokenizer = self.tokenizer or model.path
        if not tokenizer:
            raise ConfigError(
                f"model {model.name!r}: backend vllm-server needs a tokenizer (a folder or a hub id)."
            )
        name, limit = self.served(model)
        context = self.context or limit or checkpoint.context(tokenizer)
        return self.connect(
            model,
            lambda endpoint: CompletionsBackend(
                endpoint, name, tokenizer=tokenizer, parameters=model.parameters or 0,
                revision=model.identity, context=context,
            ),
        )  # fmt: skip


class CompletionsBackend(Tokenized):
    """Runs one model on a vLLM server.

    Args:
        endpoint: the server.
        model: its name there.
        tokenizer: folder of the model's tokenizer, or the id of a downloaded hub model.
        context: tokens of a prefix and its completion together.
        parameters: number of parameters of the model, for cost in FLOPs.
        revision: identifies the weights; part of every store key.

    Raises:
        ConfigError: if the tokenizer is missing or ``context`` is too small.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        model: str,
        *,
        tokenizer: str,
        context: int,
        parameters: int = 0,
        revision: str = "",
    ) -> None:
        super().__init__(checkpoint.locate(tokenizer))
        if context < 2:
            raise ConfigError(f"context must be at least 2 tokens, not {context}.")
        self.model = model
        self.context = context
        self.parameters = parameters
        self.tokenizer = checkpoint.tokenizer_id(tokenizer)
        self.revision = revision or f"{endpoint.base_url} {model}"
        self.endpoint = endpoint
        self._pace = Pace()

    async def generate(
        self, prefix: Sequence[int], sampling: Sampling, lost: Lost = unaccounted
    ) -> Completion:
        with self._pace.watch(len(prefix), sampling.max_tokens, lost) as call:
            completion = await self._complete(prefix, sampling)
            call.finished(completion.usage)
        return completion

    async def _complete(self, prefix: Sequence[int], sampling: Sampling) -> Completion:
        answer = await self.endpoint.post("/completions", self._body(prefix, sampling))
        try:
            choice, usage = answer["choices"][0], answer["usage"]
            generated, finish = tuple(choice["token_ids"]), _finish(choice)
            measured = signals.measure(*_logprobs(choice, len(generated)))
            counts = Usage(usage["prompt_tokens"], cached_tokens(usage), usage["completion_tokens"])
            name = answer["model"]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise self.garbage(answer, error) from error
        self.check(name, len(generated))
        ids = generated[:-1] if finish == "end" else generated
        return Completion(self.text(prefix[-OVERLAP:], ids), ids, counts, measured, finish or "length")

    def begin(self, prefix: Sequence[int], sampling: Sampling) -> CompletionsGeneration:
        body = self._body(prefix, sampling)
        return CompletionsGeneration(self, len(prefix), body)

    async def close(self) -> None:
        await self.endpoint.close()

    def _body(self, prefix: Sequence[int], sampling: Sampling) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "prompt": list(prefix),
            "max_tokens": min(sampling.max_tokens, room(prefix, self.context)),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "stop": list(sampling.stop),
            "include_stop_str_in_output": True,
            "logprobs": signals.TOP,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
        }
        return body | ({"seed": sampling.seed} if sampling.temperature > 0.0 else {})

    def check(self, name: str, tokens: int) -> None:
        """Refuse an answer of another model, and an empty one."""
        if name != self.model:
            raise BackendError(f"{self.endpoint.base_url} answered as {name!r}, asked for {self.model!r}.")
        if not tokens:
            raise BackendError(f"{self.endpoint.base_url} wrote nothing.", retryable=True)

    def garbage(self, answer: Any, error: Exception) -> BackendError:
        what = f"{type(error).__name__} {error}"
        return Unanswered(
            f"{self.endpoint.base_url} answered something that is no completion with token ids and "
            f"log-probabilities ({what}): {str(answer)[:80]}",
            retryable=True,
        )


class CompletionsGeneration:
    """A streamed completion; stopping it closes the connection, which makes the server abort."""

    unread = 0
    """What the server wrote after the last token that arrived, a few tokens at most, nobody knows."""

    def __init__(self, backend: CompletionsBackend, prompt: int, body: dict[str, Any]) -> None:
        self.prompt = Usage()
        self._length = prompt
        self._backend = backend
        self._body = body | {"stream": True, "stream_options": {"include_usage": True}}
        self._events: AsyncIterator[Any] | None = None

    async def read(self, mark: str = "", limit: int = 1) -> Chunk:
        if self._events is None:
            self._events = self._backend.endpoint.stream("/completions", self._body)
        async for event in self._events:
            try:
                if not event["choices"]:
                    continue
                choice, name = event["choices"][0], event["model"]
                ids, finish = tuple(choice["token_ids"] or ()), _finish(choice)
                chunk = Chunk(ids, *_logprobs(choice, len(ids)), finish)
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise self._backend.garbage(event, error) from error
            self._backend.check(name, len(ids) or bool(finish))
            self.prompt = replace(self.prompt, prompt=self._length)
            if finish is not None:
                await self._count(self._events)
            return chunk
        raise BackendError(f"{self._backend.endpoint.base_url} ended a stream too early.", retryable=True)

    async def _count(self, events: AsyncIterator[Any]) -> None:
        """The server counts after the last token. Without that, or cut off there, nothing was cached.
        A stream that is read to its end leaves the connection to the next call."""
        with suppress(BackendError):
            async for event in events:
                if usage := event.get("usage"):
                    self.prompt = replace(self.prompt, cached=cached_tokens(usage))

    async def stop(self) -> None:
        events, self._events = self._events, None
        if events is not None:
            await events.aclose()  # type: ignore[attr-defined]


def _finish(choice: Any) -> Finish | None:
    """A stop string is named, the end of the answer is a token or nothing."""
    reason = choice["finish_reason"]
    if reason is None or reason == "length":
        return reason  # type: ignore[no-any-return]
    if reason != "stop":
        raise ValueError(f"finish_reason {reason!r}")
    return "stop" if isinstance(choice.get("stop_reason"), str) else "end"


def _logprobs(choice: Any, tokens: int) -> tuple[list[float], list[list[float]]]:
    """Log-probabilities of the tokens, and of the likeliest ones in falling order."""
    raw = choice["logprobs"] if tokens else {"token_logprobs": [], "top_logprobs": []}
    chosen = [float(value) for value in raw["token_logprobs"]]
    top = [sorted(row.values(), reverse=True) for row in raw["top_logprobs"]]
    if not len(chosen) == len(top) == tokens or any(math.isnan(value) for value in chosen):
        raise ValueError("log-probabilities are missing")
    return chosen, top
