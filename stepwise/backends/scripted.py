"""A backend without a model, for tests and for trying routers: it writes what a function says.

Tokens are characters, so that prefixes, separators and cached counts are exact and readable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from stepwise.engine import signals
from stepwise.engine.backend import Chunk, Completion, Lost, Sampling, only_read, unaccounted
from stepwise.errors import BackendError, ContextOverflow
from stepwise.types import Finish, Usage, common_prefix

Script = Callable[[str], str]
"""From the whole text so far to everything that the model would write after it."""


STRANGE = -9.0
"""Log-probability of a token that a script does not write."""


class ScriptedBackend:
    """Continues a text as its script says, one character a token; the script's end is the answer's.

    Args:
        script: what the model would write after a text.
        logprob: log-probability of every token, or of a token by its continuation.
        parameters: pretended size.
        context: largest number of tokens.
        before: awaited before each generation; tests make it wait or raise.
        during: awaited with the tokens written so far, every time that some have been; likewise.
        chunk: tokens that are written between two such moments, or each time that a generation is read.

    Attributes:
        calls: what has been computed, one entry a call; an exact account to hold others against.
    """

    reads = True

    def __init__(
        self,
        script: Script,
        *,
        logprob: float | Callable[[str], float] = -0.1,
        parameters: int = 1,
        context: int = 100_000,
        before: Callable[[str], Awaitable[None]] | None = None,
        during: Callable[[str], Awaitable[None]] | None = None,
        chunk: int = 3,
    ) -> None:
        self.revision = f"scripted-{id(script)}"
        self.tokenizer = "characters"
        self.parameters = parameters
        self.context = context
        self.calls: list[Usage] = []
        self.chunk = chunk
        self._script = script
        self._logprob = logprob
        self._before = before
        self.during = during
        self._known: list[tuple[int, ...]] = []
        self._closed = False

    def encode(self, text: str, *, first: bool = True) -> tuple[int, ...]:
        return tuple(map(ord, text))

    async def generate(
        self, prefix: Sequence[int], sampling: Sampling, lost: Lost = unaccounted
    ) -> Completion:
        await self._admit(prefix)
        if sampling.read:
            return self._read(tuple(prefix), sampling.read)
        written, finish = self._cut(prefix, sampling)
        count = len(written) + (finish == "end")
        kept, finish = sampling.ends.cut(written, finish, sampling.max_tokens)
        call = self.open(prefix)
        try:
            while self.calls[call].completion < count:
                left = count - self.calls[call].completion
                some = left if self.during is None else min(self.chunk, left)
                await self.write_some(call, prefix, written, some)
        except BaseException:
            lost(self.calls[call])
            raise
        behind, written = len(written) - kept, written[:kept]
        logprob = self.logprob(written)
        count -= behind
        measured = signals.measure([logprob] * count, [[logprob, logprob - 1.0]] * count)
        return Completion(written, self.encode(written), self.calls[call].discard(behind), measured, finish)

    def _read(self, prefix: tuple[int, ...], tokens: int) -> Completion:
        """How likely the model thinks the end of a prefix: what it would have written itself as likely as
        that, anything else not at all."""
        before, written = prefix[:-tokens], self.text((), prefix[-tokens:])
        own = self._script(self.text((), before))[:tokens]
        likely = [self.logprob(own) if a == b else STRANGE for a, b in zip(own, written, strict=False)]
        chosen = likely + [STRANGE] * (tokens - len(likely))
        usage = self.calls[self.open(prefix)]
        usage = replace(usage, cached=min(usage.cached, len(before) - 1))
        self.calls[-1] = usage
        return only_read(usage, signals.measure(chosen, [[-0.01, STRANGE]] * tokens))

    def begin(self, prefix: Sequence[int], sampling: Sampling) -> ScriptedGeneration:
        return ScriptedGeneration(self, tuple(prefix), sampling)

    async def start(self, prefix: Sequence[int], sampling: Sampling) -> tuple[str, Finish]:
        """Admit a generation that is to be read: what it will write, and how it ends."""
        await self._admit(prefix)
        return self._cut(prefix, sampling)

    def open(self, prefix: Sequence[int]) -> int:
        """Read a prompt: the number of the call."""
        cached = max((common_prefix(known, prefix[:-1]) for known in self._known), default=0)
        self._known.append(tuple(prefix))
        self.calls.append(Usage(prompt=len(prefix), cached=cached))
        return len(self.calls) - 1

    async def write_some(self, call: int, prefix: Sequence[int], written: str, tokens: int) -> None:
        """Compute so many more tokens of what a call writes; the last one is sampled, but not read."""
        usage = self.calls[call]
        self.calls[call] = usage = replace(usage, completion=usage.completion + tokens)
        self._known[call] = (*prefix, *map(ord, written[: usage.completion - 1]))
        if self.during is not None:
            await self.during(written[: usage.completion])

    def logprob(self, written: str) -> float:
        """Log-probability of each token of a text."""
        return self._logprob(written) if callable(self._logprob) else self._logprob

    def text(self, before: Sequence[int], token_ids: Sequence[int]) -> str:
        return "".join(map(chr, token_ids))

    def piece(self, token: int) -> str:
        return chr(token)

    async def _admit(self, prefix: Sequence[int]) -> None:
        await (self._before("".join(map(chr, prefix))) if self._before else asyncio.sleep(0))
        if self._closed:
            raise BackendError("the backend is closed.")
        if len(prefix) >= self.context:
            raise ContextOverflow(f"the chain has {len(prefix)} tokens, the context is {self.context}.")

    def _cut(self, prefix: Sequence[int], sampling: Sampling) -> tuple[str, Finish]:
        text = self._script("".join(map(chr, prefix)))
        limit = min(sampling.max_tokens, self.context - len(prefix))
        scanner = sampling.ends.scan()
        if any(map(scanner.read, text[:limit])):
            return text[: scanner.pieces], "stop"
        return (text, "end") if len(text) < limit else (text[:limit], "length")

    async def close(self) -> None:
        self._closed = True


class ScriptedGeneration:
    """A scripted completion that is handed out a few tokens at a time."""

    def __init__(self, backend: ScriptedBackend, prefix: tuple[int, ...], sampling: Sampling) -> None:
        self._backend, self._prefix, self._sampling = backend, prefix, sampling
        self._written = ""
        self._finish: Finish | None = None
        self._call: int | None = None
        self._read = 0

    @property
    def prompt(self) -> Usage:
        return Usage() if self._call is None else replace(self._backend.calls[self._call], completion=0)

    @property
    def unread(self) -> int:
        return 0 if self._call is None else self._backend.calls[self._call].completion - self._read

    async def read(self, mark: str = "", limit: int = 1) -> Chunk:
        if self._call is None:
            self._written, self._finish = await self._backend.start(self._prefix, self._sampling)
            self._call = self._backend.open(self._prefix)
        ids = (*self._backend.encode(self._written), *([0] if self._finish == "end" else []))
        new = ids[self._read : self._read + self._backend.chunk]
        await self._backend.write_some(self._call, self._prefix, self._written, len(new))
        logprobs = [self._logprob(i) for i in range(self._read, self._read + len(new))]
        self._read += len(new)
        finish = self._finish if self._read == len(ids) else None
        return Chunk(new, logprobs, [[value, value - 1.0] for value in logprobs], finish)

    def _logprob(self, place: int) -> float:
        """Of a token, by the line that it is in."""
        return self._backend.logprob(self._written[self._written.rfind("\n", 0, place) + 1 :])

    async def stop(self) -> None:
        """Nothing more is written than was asked for."""
