"""What a real server says of every call, recorded beside the run for the audit.

A line of ``exchanges.jsonl`` is one call: the token ids of the prompt and of what arrived, and the server's
own counts as its answer or its last event gave them. A call that broke off before them has none, and then
what arrived is counted; one without any answer is in no line. The server's ``/metrics`` know of both.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol
from urllib.request import urlopen

import msgspec

from stepwise.backends import checkpoint
from stepwise.backends.http.completions import CompletionsBackend
from stepwise.backends.http.endpoint import Endpoint
from stepwise.backends.http.llama import LlamaBackend
from stepwise.engine.backend import Backend
from stepwise.errors import ConfigError
from stepwise.types import Usage, common_prefix

KINDS = ("vllm-server", "llama-server")


class Exchange(msgspec.Struct, frozen=True):
    """One call of a model. ``counted`` says whether the server counted it to its end."""

    chain: str
    model: str
    prompt_ids: list[int]
    written_ids: list[int]
    prompt: int
    cached: int
    written: int
    counted: bool


class Troubled(Protocol):
    """What may break a connection."""

    async def connect(self, name: str) -> None: ...
    async def write(self, name: str) -> None: ...


class RecordingEndpoint(Endpoint):
    """A server whose answers are noted, and whose connections break where ``trouble`` says so."""

    def __init__(self, url: str, chain: str, model: str, trouble: Troubled, notes: list[Exchange]) -> None:
        super().__init__(url)
        self._chain, self._model, self._trouble, self._notes = chain, model, trouble, notes

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        await self._trouble.connect(self._model)
        answer = await super().post(path, body)
        self._note(body, [answer])
        return answer

    async def stream(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[Any]:
        await self._trouble.connect(self._model)
        events: list[Any] = []
        try:
            async with aclosing(super().stream(path, body)) as stream:  # type: ignore[type-var]
                async for event in stream:
                    events.append(event)
                    yield event
                    await self._trouble.write(self._model)
        finally:
            self._note(body, events)

    def _note(self, body: Mapping[str, Any], events: Sequence[Any]) -> None:
        if events:
            count = _llama_counts if "n_predict" in body else _vllm_counts
            ids, usage, counted = count(len(body["prompt"]), events)
            self._notes.append(
                Exchange(
                    self._chain, self._model, body["prompt"], ids, usage.prompt, usage.cached,
                    usage.completion, counted,
                )
            )  # fmt: skip


Counts = tuple[list[int], Usage, bool]
"""The token ids that arrived, what the server counted, and whether it did so to the end."""


def _llama_counts(length: int, events: Sequence[Any]) -> Counts:
    last = events[-1]
    ids = [token for event in events for token in event["tokens"]]
    cached = last["tokens_evaluated"] - last["timings"]["prompt_n"]
    return ids, Usage(last["tokens_evaluated"], cached, last["tokens_predicted"]), last["stop"]


def _vllm_counts(length: int, events: Sequence[Any]) -> Counts:
    ids = [token for event in events for choice in event["choices"] for token in choice["token_ids"] or ()]
    usage = events[-1].get("usage")
    if not usage:
        return ids, Usage(length if ids else 0, 0, len(ids)), False
    cached = (usage["prompt_tokens_details"] or {}).get("cached_tokens") or 0
    return ids, Usage(usage["prompt_tokens"], cached, usage["completion_tokens"]), True


def credited(exchanges: Iterable[Exchange]) -> list[Usage]:
    """The usage of each call as a chain owes it: prompt tokens are cached where the server had them cached
    and an earlier call of the chain to this model had processed them. The last token of a call has not been,
    unless the call was broken off and the server went on."""
    processed: dict[tuple[str, str], list[list[int]]] = {}
    usages = []
    for call in exchanges:
        before = processed.setdefault((call.chain, call.model), [])
        sent = max((common_prefix(ids, call.prompt_ids) for ids in before), default=0)
        read = call.written_ids[:-1] if call.counted else call.written_ids
        before.append([*call.prompt_ids, *read])
        usages.append(Usage(call.prompt, min(call.cached, sent), call.written))
    return usages


class RealServer:
    """A model on a server that the audit runs chains on.

    Raises:
        ConfigError: if the kind of server is unknown, or it cannot be reached.
    """

    def __init__(self, kind: str, url: str, folder: str) -> None:
        if kind not in KINDS:
            raise ConfigError(f"backend must be one of {', '.join(KINDS)}, not {kind!r}.")
        self._kind, self._url, self._folder = kind, url, folder
        known = Endpoint(url).served_models(5.0)
        if not known:
            raise ConfigError(f"base_url: {url} lists no models.")
        self._name, limit = next(iter(known.items()))
        self._context = min(limit or 1024, checkpoint.context(folder))

    def backend(self, chain: str, model: str, trouble: Troubled, notes: list[Exchange]) -> Backend:
        """The server as one model of one chain calls it."""
        endpoint = RecordingEndpoint(self._url, chain, model, trouble, notes)
        if self._kind == "llama-server":
            return LlamaBackend(endpoint.closing(), tokenizer=self._folder, context=self._context)
        return CompletionsBackend(endpoint, self._name, tokenizer=self._folder, context=self._context)

    def counters(self) -> tuple[int, int]:
        """Prompt and generated tokens, as the server's ``/metrics`` have counted them."""
        with urlopen(self._url.removesuffix("/v1") + "/metrics", timeout=10) as answer:
            text = str(answer.read().decode())
        prompt, written = PREFIXES[self._kind]
        return _total(text, prompt), _total(text, written)


PREFIXES = {
    "vllm-server": (("vllm:prompt_tokens_total",), ("vllm:generation_tokens_total",)),
    "llama-server": (
        ("llamacpp:prompt_tokens_total", "llamacpp:prompt_tokens_cached_total"),
        ("llamacpp:tokens_predicted_total",),
    ),
}
"""Metrics whose sums are the prompt and the generated tokens."""


def _total(text: str, names: Sequence[str]) -> int:
    lines = (line.rpartition(" ") for line in text.splitlines() if line.startswith(names))
    return sum(int(float(value)) for name, _, value in lines if name.partition("{")[0] in names)
