"""A backend without a model, for tests and for trying routers: it writes what a function says.

Tokens are characters, so that prefixes, separators and cached counts are exact and readable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from stepwise import signals
from stepwise.backends.base import Completion, Sampling
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
    """

    def __init__(
        self,
        script: Script,
        *,
        logprob: float | Callable[[str], float] = -0.1,
        parameters: int = 1,
        context: int = 100_000,
        before: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self.revision = f"scripted-{id(script)}"
        self.tokenizer = "characters"
        self.parameters = parameters
        self.context = context
        self.calls: list[Usage] = []
        self._script = script
        self._logprob = logprob
        self._before = before
        self._known: list[tuple[int, ...]] = []
        self._closed = False

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(map(ord, text))

    async def generate(self, prefix: Sequence[int], sampling: Sampling) -> Completion:
        text = "".join(map(chr, prefix))
        await (self._before(text) if self._before else asyncio.sleep(0))
        if self._closed:
            raise BackendError("the backend is closed.")
        if len(prefix) >= self.context:
            raise ContextOverflow(f"the chain has {len(prefix)} tokens, the context is {self.context}.")
        written, finish = self._cut(self._script(text), sampling, self.context - len(prefix))
        logprob = self._logprob(written) if callable(self._logprob) else self._logprob
        count = len(written) + (finish == "end")
        cached = max((common_prefix(known, prefix[:-1]) for known in self._known), default=0)
        self._known.append((*prefix, *map(ord, written[:-1])))
        usage = Usage(prompt=len(prefix), cached=cached, completion=count)
        self.calls.append(usage)
        measured = signals.measure([logprob] * count, [[logprob, logprob - 1.0]] * count)
        return Completion(written, self.encode(written), usage, measured, finish)

    def _cut(self, text: str, sampling: Sampling, room: int) -> tuple[str, Finish]:
        ends = [text.index(stop) + len(stop) for stop in sampling.stop if stop in text]
        limit = min(sampling.max_tokens, room)
        if ends and min(ends) <= limit:
            return text[: min(ends)], "stop"
        return (text, "end") if len(text) < limit else (text[:limit], "length")

    async def close(self) -> None:
        self._closed = True
