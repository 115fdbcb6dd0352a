"""One chain as one choice of an answer: its events become pieces of text, cut at stop strings."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from stepwise.engine.solution import Delta, Event
from stepwise.gateway.thinking import Thinking, overlap
from stepwise.types import Step, Trace

Reason = Literal["stop", "length", "tool_calls"]
"""OpenAI's finish reasons, as far as they apply."""


class Stopped(Exception):
    """A stop string was found: as far as the client is concerned, the chain is over."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a choice ended.

    Attributes:
        reason: for the client.
        stop: for its provenance: a trace's, or "stop_string".
        alone: what the large model alone would have cost.
    """

    reason: Reason
    stop: str
    trace: Trace
    alone: float


@dataclass(frozen=True, slots=True)
class Done:
    """A step of a choice.

    Attributes:
        number: from 1.
        time: Unix time of its end, in seconds.
        cost, alone: of the chain so far, and what the large model alone would have cost so far.
    """

    step: Step
    number: int
    time: float
    cost: float
    alone: float


@dataclass(frozen=True, slots=True)
class Piece:
    """What happened to a choice: new text, a finished step, the end. ``calls`` are calls of tools,
    ``thought`` is text that was asked for apart."""

    choice: int
    text: str
    model: str
    done: Done | None = None
    calls: Sequence[Mapping[str, Any]] = ()
    finished: Finished | None = None
    thought: str = ""


class Cut:
    """Lets text through up to the first stop string; text that may begin a stop string is held back."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.stopped = False
        self._stops = stops
        self.held = ""

    def feed(self, text: str) -> str:
        if self.stopped:
            return ""
        held = self.held + text
        ends = [held.index(stop) for stop in self._stops if stop in held]
        if ends:
            self.stopped, self.held = True, ""
            return held[: min(ends)]
        keep = max((overlap(held, stop) for stop in self._stops), default=0)
        self.held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def rest(self) -> str:
        """What was held back in vain."""
        held, self.held = self.held, ""
        return held


class AnswerChoice:
    """Listens to a chain and emits pieces.

    A stop string ends the chain with the step that holds it, so that every generated token is
    counted.

    Args:
        index: of the choice in the answer.
        stops: strings that end it.
        alone: what the large model alone would have cost, by the number of tokens written.
        emit: takes the pieces.
        formed: whether the one step is a whole turn, and its text a message as JSON.
        think_ends: by model, the text that ends its thinking, where thoughts are to be apart. Whoever begins
            the chain says whether it thinks.

    Attributes:
        steps: those that are done.
        calls: of tools, that the answer makes.
    """

    def __init__(
        self,
        index: int,
        stops: Sequence[str],
        alone: Callable[[int], float],
        emit: Callable[[Piece], None],
        *,
        formed: bool = False,
        think_ends: Mapping[str, str] | None = None,
    ) -> None:
        self.index = index
        self.steps: list[Done] = []
        self.calls: Sequence[Mapping[str, Any]] = ()
        self._formed, self._think_ends = formed, think_ends or {}
        self._thinking: Thinking | None = None
        self._begun = False
        self._said = ""
        self._alone, self._emit = alone, emit
        self._cut = Cut(stops)
        self._heard = self._written = 0
        self._cost = 0.0

    def hear(self, event: Event) -> None:
        """To be given to `Chain.finish`.

        Raises:
            Stopped: after a step that holds a stop string.
        """
        if isinstance(event, Delta):
            self._heard += len(event.text)
            thought, text = self._fed(event.text, event.model)
            if thought or text:
                self._emit(Piece(self.index, text, event.model, thought=thought))
            return
        thought, text = self._fed(self._text(event)[self._heard :], event.model)
        self._heard = 0
        self._written += event.length
        self._cost += event.cost
        done = Done(event, len(self.steps) + 1, time.time(), self._cost, self._alone(self._written))
        self.steps.append(done)
        self._emit(Piece(self.index, text, event.model, done, self.calls, thought=thought))
        if self._cut.stopped:
            raise Stopped

    def _text(self, step: Step) -> str:
        """What a step says; a whole turn may also call tools."""
        if not self._formed:
            return step.text
        message = json.loads(step.text)
        self.calls = message["tool_calls"]
        return str(message["content"])

    def _fed(self, text: str, model: str) -> tuple[str, str]:
        """What of a text goes out, as thought and as said."""
        if not self._begun and model in self._think_ends:
            self._thinking = Thinking(self._think_ends[model])
        self._begun = True
        return self._parted(self._cut.feed(text))

    def _parted(self, text: str) -> tuple[str, str]:
        thought, said = self._thinking.feed(text) if self._thinking else ("", text)
        self._said += said
        return thought, said

    @property
    def message(self) -> str | None:
        """What a client would send back: a text, or a whole turn as JSON; None where it has none yet."""
        if not self.steps:
            return None
        said = self._said + ("" if self._thinking else self._cut.held)
        return json.dumps({"content": said, "tool_calls": list(self.calls)}) if self._formed else said

    def ending(self, trace: Trace, alone: float) -> Finished:
        """How it ended. ``alone`` is what the large model alone would have cost."""
        stop = "stop_string" if self._cut.stopped else trace.stop or "cancelled"
        reason: Reason = "stop" if stop in ("stop_string", "answered") else "length"
        if self.calls and reason == "stop":
            reason = "tool_calls"
        return Finished(reason, stop, trace, alone)

    def finish(self, end: Finished) -> None:
        """Emit the end."""
        model = end.trace.steps[-1].model if end.trace.steps else ""
        thought, said = self._parted(self._cut.rest())
        thought += self._thinking.rest() if self._thinking else ""
        self._emit(Piece(self.index, said, model, finished=end, thought=thought))
