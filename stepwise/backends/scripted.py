"""A backend without a model, for tests and for trying routers: it writes what a function says.

Tokens are characters, so that prefixes, separators and cached counts are exact and readable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from stepwise.engine import signals
from stepwise.engine.backend import Chunk, Completion, Sampling
from stepwise.errors import BackendError, ContextOverflow
from stepwise.types import Finish, Usage, common_prefix

Script = Callable[[str], str]
"""From the whole text so far to everything that the model would write after it."""


class ScriptedBackend:
    """Continues a text as its script says, one character a token; the script's end is the answer's.

    Args:
        script: what the model would write after a text.
        logprob: log-probability of every token, or of a token by its continuation.
        parameters: pretended size.
        context: largest number of tokens.
        before: awaited before each generation; tests make it wait or raise.
        chunk: tokens that a generation adds each time it is read.
    """

    def __init__(
        self,
        script: Script,
        *,
        logprob: float | Callable[[str], float] = -0.1,
        parameters: int = 1,
        context: int = 100_000,
        before: Callable[[str], Awaitable[None]] | None = None,
        chunk: int = 3,
    ) -> None:
        self.revision = f"scripted-{id(script)}"
        self.tokenizer = "characters"
        self.parameters = parameters
        self.context = context
        self.calls: list[Usage] = []
        self._script = script
        self._logprob = logprob
        self._before = before
        self._chunk = chunk
        self._known: list[tuple[int, ...]] = []
        self._closed = False

    def encode(self, text: str, *, first: bool = True) -> tuple[int, ...]:
        return tuple(map(ord, text))

    async def generate(self, prefix: Sequence[int], sampling: Sampling) -> Completion:
        text = "".join(map(chr, prefix))
        await (self._before(text) if self._before else asyncio.sleep(0))
        if self._closed:
            raise BackendError("the backend is closed.")
        if len(prefix) >= self.context:
            raise ContextOverflow(f"the chain has {len(prefix)} tokens, the context is {self.context}.")
        written, finish = self._cut(self._script(text), sampling, self.context - len(prefix))
        logprob = self.logprob(written)
        count = len(written) + (finish == "end")
        cached = max((common_prefix(known, prefix[:-1]) for known in self._known), default=0)
        self._known.append((*prefix, *map(ord, written[:-1])))
        usage = Usage(prompt=len(prefix), cached=cached, completion=count)
        self.calls.append(usage)
        measured = signals.measure([logprob] * count, [[logprob, logprob - 1.0]] * count)
        return Completion(written, self.encode(written), usage, measured, finish)

    def logprob(self, written: str) -> float:
        """Log-probability of each token of a text."""
        return self._logprob(written) if callable(self._logprob) else self._logprob

    def begin(self, prefix: Sequence[int], sampling: Sampling) -> ScriptedGeneration:
        return ScriptedGeneration(self, prefix, sampling, self._chunk)

    def text(self, before: Sequence[int], token_ids: Sequence[int]) -> str:
        return "".join(map(chr, token_ids))

    def piece(self, token: int) -> str:
        return chr(token)

    def _cut(self, text: str, sampling: Sampling, room: int) -> tuple[str, Finish]:
        ends = [text.index(stop) + len(stop) for stop in sampling.stop if stop in text]
        limit = min(sampling.max_tokens, room)
        if ends and min(ends) <= limit:
            return text[: min(ends)], "stop"
        return (text, "end") if len(text) < limit else (text[:limit], "length")

    async def close(self) -> None:
        self._closed = True


class ScriptedGeneration:
    """A scripted completion that is handed out a few tokens at a time."""

    def __init__(
        self, backend: ScriptedBackend, prefix: Sequence[int], sampling: Sampling, chunk: int
    ) -> None:
        self.prompt = Usage()
        self._backend = backend
        self._prefix = tuple(prefix)
        self._sampling = sampling
        self._chunk = chunk
        self._whole: Completion | None = None
        self._read = 0

    async def read(self, mark: str = "", limit: int = 1) -> Chunk:
        if self._whole is None:
            self._whole = await self._backend.generate(self._prefix, self._sampling)
            call = self._backend.calls.pop()
            self._backend.calls.append(replace(call, completion=0))
            self.prompt = replace(call, completion=0)
        ids = (*self._whole.token_ids, *([0] if self._whole.finish == "end" else []))
        new = ids[self._read : self._read + self._chunk]
        self._read += len(new)
        self._backend.calls.append(Usage(completion=len(new)))
        finish = self._whole.finish if self._read == len(ids) else None
        logprobs = [self._logprob(i) for i in range(self._read - len(new), self._read)]
        return Chunk(new, logprobs, [[value, value - 1.0] for value in logprobs], finish)

    def _logprob(self, place: int) -> float:
        """Of a token, by the line that it is in."""
        text = self._whole.text if self._whole else ""
        return self._backend.logprob(text[text.rfind("\n", 0, place) + 1 :])

    async def stop(self) -> int:
        return 0
