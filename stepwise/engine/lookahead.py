"""Lookahead: a model keeps writing past the end of a step while the router decides.

Asking a model anew for every step costs a round trip, a place in the queue and a prompt each time. Here a
generation is cut into steps as it is read, and stopped only when another model takes over. What it wrote
beyond the last step is the overrun, which the chain is charged for as discarded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from stepwise.engine import signals
from stepwise.engine.backend import Completion, Generation, Sampling, StreamingBackend
from stepwise.engine.boundaries import Boundaries, Scanner
from stepwise.engine.ledger import Meter
from stepwise.engine.prefix import Prefix
from stepwise.errors import ContextOverflow
from stepwise.types import Finish, Usage

Listener = Callable[[str], None]
"""Called with new text of a step as it is generated."""

OVERLAP = 8
"""Tokens before a step that are decoded with it, so that characters which span several tokens, and
spaces that a decoder drops at the start of a text, come out right."""


class Lookahead:
    """One generation of one model, handed out step by step.

    Args:
        model: its name.
        backend: runs it.
        prefix: what it continues.
        sampling: ``max_tokens`` bounds all steps together; with boundaries it ends with the first.
        meter: charged for what no step has taken, when the generation is stopped.
    """

    def __init__(
        self,
        model: str,
        backend: StreamingBackend,
        prefix: Prefix,
        sampling: Sampling,
        meter: Meter,
    ) -> None:
        self.model = model
        self.position = len(prefix)
        self._backend = backend
        self._generation: Generation = backend.begin(prefix, sampling)
        self._meter = meter
        self._prompt = Usage()  # of the generation's prompts, as far as they have been charged
        self._before = prefix.tail(OVERLAP)
        self._begun = len(prefix)
        self._taken: list[int] = []
        self._ids: list[int] = []
        self._logprobs: list[float] = []
        self._top: list[Sequence[float]] = []
        self._finish: Finish | None = None
        self._stopped = False

    def continues(self, model: str, length: int) -> bool:
        """Whether the next token it hands out is ``model``'s at this length of the chain."""
        return self.model == model and self.position == length and not self._stopped

    async def step(self, limit: int, boundaries: Boundaries, listen: Listener | None = None) -> Completion:
        """The text up to the next boundary, the end of the answer, or ``limit`` tokens, with what it took.
        The generation ends with whoever waits for it.

        Raises:
            BackendError: if the model cannot be run.
        """
        try:
            return await self._step(limit, boundaries, listen)
        except BaseException:
            await self.stop()
            raise

    async def _step(self, limit: int, boundaries: Boundaries, listen: Listener | None) -> Completion:
        sent, scanner = 0, boundaries.scan()
        mark = "" if listen else boundaries.mark
        while True:
            cut = self._cut(scanner, limit)
            if listen is not None:
                text = self._text(cut[0]) if cut else self._text(scanner.certain).removesuffix("\ufffd")
                listen(text[sent:])
                sent = max(sent, len(text))
            if cut is not None:
                return self._take(*cut)
            chunk = await self._generation.read(mark, limit - len(self._ids))
            self._ids.extend(chunk.token_ids)
            self._logprobs.extend(chunk.logprobs)
            self._top.extend(chunk.top)
            self._finish = chunk.finish

    async def stop(self) -> None:
        """End the generation, and charge the tokens that no step has taken. Stopping twice is harmless."""
        if self._stopped:
            return
        self._stopped = True
        try:
            await self._generation.stop()
        finally:  # also where whoever stops it is cancelled
            left = len(self._ids) + self._generation.unread
            self._meter.lost(replace(self._unpaid(), completion=left))

    def written(self, length: int) -> list[int]:
        """What the model is known to have written behind the first ``length`` tokens of the chain."""
        return [*self._taken, *self._ids][length - self._begun :]

    def _unpaid(self) -> Usage:
        """What the prompts of the generation took since they were last charged."""
        paid, self._prompt = self._prompt, self._generation.prompt
        return Usage(self._prompt.prompt - paid.prompt, self._prompt.cached - paid.cached)

    def _cut(self, scanner: Scanner, limit: int) -> tuple[int, Finish] | None:
        """Where the next step ends among the tokens at hand, and how; None when it goes on."""
        end = len(self._ids) - (self._finish == "end")
        while scanner.pieces < min(end, limit):
            if scanner.read(self._backend.piece(self._ids[scanner.pieces])):
                return scanner.pieces, "stop"
        if scanner.pieces >= limit:
            return scanner.close("length", limit)
        return scanner.close(self._finish, limit) if self._finish else None

    def _take(self, count: int, finish: Finish) -> Completion:
        """Hand out the first ``count`` tokens, and the end-of-sequence token when it follows them."""
        if not count and finish == "length":
            raise ContextOverflow(f"the chain has filled the context of model {self.model!r}.")
        spent = count + (finish == "end")
        ids = tuple(self._ids[:count])
        text = self._text(count)
        measured = signals.measure(self._logprobs[:spent], self._top[:spent])
        usage = replace(self._unpaid(), completion=spent)
        self.position += count
        self._before = [*self._before, *ids][-OVERLAP:]
        self._taken += self._ids[:spent]
        del self._ids[:spent], self._logprobs[:spent], self._top[:spent]
        return Completion(text, ids, usage, measured, finish)

    def _text(self, count: int) -> str:
        return self._backend.text(self._before, self._ids[:count])
