"""Reading what a server answers. Any bytes and any JSON give a value of the shapes here, or `Unanswered`.

The text of an answer must be there in its place. Probabilities need not be: where they are missing or cannot
be true, an answer has no signal (`stepwise.engine.signals.missing`). Usage that is missing is estimated, and
usage that cannot be true makes an answer garbage: nobody could say what it cost.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct

from stepwise.backends.http.failures import garbage
from stepwise.engine import signals
from stepwise.engine.backend import text_tokens
from stepwise.types import Signals, Usage

T = TypeVar("T")
LARGEST_EVENT = 1 << 24
"""Bytes of one server-sent event."""

HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""An escape of half a surrogate pair."""

UNREADABLE = (msgspec.ValidationError, OverflowError, RecursionError, UnicodeEncodeError)
"""What the conversion of a value raises that has not the shape asked for."""

TokenId = Annotated[int, Meta(ge=0, lt=2**31)]
Count = Annotated[int, Meta(ge=0, lt=2**53)]


class PromptDetails(Struct):
    cached_tokens: Count | None = None


class Counts(Struct):
    """A ``usage`` object."""

    prompt_tokens: Count
    completion_tokens: Count
    prompt_tokens_details: PromptDetails | None = None


class CompletionChoice(Struct):
    """A choice, or a part of one, of ``/completions`` with token ids."""

    token_ids: list[TokenId] | None = None
    finish_reason: str | None = None
    stop_reason: Any = None
    logprobs: Any = None
    prompt_logprobs: Any = None


class CompletionAnswer(Struct):
    """An answer of ``/completions``, or an event of its stream."""

    model: str
    choices: list[CompletionChoice]
    usage: Any = None


class CompletionLogprobs(Struct):
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]


class PromptToken(Struct):
    logprob: float


class LlamaTimings(Struct):
    """``prompt_n`` tokens of the prompt were computed, the others were in the slot's cache."""

    prompt_n: Count


class LlamaEvent(Struct):
    """An event of the stream of llama-server's ``/completion``. ``tokens_predicted`` counts from its start;
    the last event (``stop``) has no token of its own."""

    content: str
    tokens: list[TokenId]
    stop: bool
    tokens_predicted: Count
    tokens_evaluated: Count
    model: str = ""
    stop_type: str = ""
    timings: LlamaTimings | None = None
    completion_probabilities: Any = None


class Message(Struct):
    """What a chat model says. Its reasoning is not part of the answer."""

    content: str | list[Any] | None = None
    refusal: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    tool_calls: Any = None


class ChatChoice(Struct):
    """``stop_reason`` and ``matched_stop`` are how vLLM and SGLang say what ended an answer."""

    message: Message
    finish_reason: str | None = None
    stop_reason: Any = UNSET
    matched_stop: Any = UNSET
    logprobs: Any = None


class ChatAnswer(Struct):
    choices: Annotated[list[ChatChoice], Meta(min_length=1)]
    model: str | None = None
    usage: Any = None


class ChatAlternative(Struct):
    logprob: float


class ChatToken(Struct):
    logprob: float
    top_logprobs: list[ChatAlternative]


class ChatLogprobs(Struct):
    content: list[ChatToken]


class ServedModel(Struct):
    id: str
    max_model_len: Any = None


class ServedModels(Struct):
    data: list[ServedModel]


def document(raw: bytes, where: str) -> Any:
    """The JSON of an answer or an event, its texts free of halves of surrogate pairs.

    Raises:
        Unanswered: if it is none.
    """
    try:
        text = raw.decode("utf-8-sig")
        value = json.loads(text, parse_int=_integer)
        if HALF.search(text):
            value = json.loads(_clean(json.dumps(value, ensure_ascii=False)))
        return value
    except (ValueError, RecursionError) as error:
        raise garbage(where, "is no JSON") from error


def _integer(digits: str) -> int | float:
    """Python refuses to read thousands of digits; no count has them."""
    return int(digits) if len(digits) < 400 else float("nan")


def shaped(value: Any, shape: type[T], where: str) -> T:
    """A JSON value in its shape.

    Raises:
        Unanswered: if it has another; the message says where.
    """
    try:
        return msgspec.convert(value, shape)
    except UNREADABLE as error:
        place = re.search(r"at `(\$[\w.\[\]]*)`", str(error))
        at = f" at {place[1]}" if place else ""
        raise garbage(where, f"is not what was asked for{at}") from error


def maybe(value: Any, shape: type[T]) -> T | None:
    """A JSON value in its shape; None if it has another."""
    try:
        return msgspec.convert(value, shape)
    except UNREADABLE:
        return None


def _clean(text: str) -> str:
    """A text that can be encoded: halves of surrogate pairs are no characters."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def counted(value: Any, where: str, *, prompt: int, completion: int) -> Usage | None:
    """A ``usage`` object, None where the server gave none.

    Args:
        prompt, completion: the most tokens that there can have been.

    Raises:
        Unanswered: if it cannot be true.
    """
    if value is None:
        return None
    counts = shaped(value, Counts, f"{where}: usage")
    cached = (counts.prompt_tokens_details and counts.prompt_tokens_details.cached_tokens) or 0
    if counts.prompt_tokens > prompt or counts.completion_tokens > completion:
        raise garbage(where, f"counts more tokens than the {prompt} and {completion} that there can be")
    if cached > counts.prompt_tokens:
        raise garbage(where, "counts more cached tokens than the prompt has")
    return Usage(counts.prompt_tokens, cached, counts.completion_tokens)


def estimated(prompt: int, written: str, limit: int) -> Usage:
    """Usage that no server counted, of a text that was written after a prompt of about so many tokens."""
    completion = min(limit, max(1, text_tokens(len(written))))
    return Usage(prompt, 0, completion, estimated=prompt + completion)


def token_logprobs(choice: CompletionChoice, tokens: int) -> tuple[list[float], list[list[float]]]:
    """Log-probabilities of tokens, and for each the likeliest ones in falling order; NaN where they are not
    told, which `signals.measure` takes as no signal."""
    read = maybe(choice.logprobs, CompletionLogprobs) if tokens else None
    if read is None or not len(read.token_logprobs) == len(read.top_logprobs) == tokens:
        return [float("nan")] * tokens, [[]] * tokens
    return read.token_logprobs, [sorted(row.values(), reverse=True) for row in read.top_logprobs]


def prompt_logprobs(choice: CompletionChoice, prefix: Sequence[int], tokens: int) -> Signals:
    """What is told of the last so many tokens of a prefix that was only read."""
    rows = maybe(choice.prompt_logprobs, list[dict[str, PromptToken] | None])
    last = rows[-tokens:] if rows is not None and len(rows) == len(prefix) else []
    chosen: list[float] = []
    top: list[list[float]] = []
    for row, token in zip(last, prefix[-tokens:], strict=False):
        if row is None or str(token) not in row:
            return signals.missing(tokens)
        chosen.append(row[str(token)].logprob)
        top.append(sorted((other.logprob for other in row.values()), reverse=True))
    return signals.measure(chosen, top) if len(chosen) == tokens else signals.missing(tokens)


def llama_logprobs(event: LlamaEvent) -> tuple[float, list[float]]:
    """The same for the one token of an event of llama-server."""
    rows = maybe(event.completion_probabilities, list[ChatToken])
    if rows is None or len(rows) != 1:
        return float("nan"), []
    return rows[0].logprob, sorted((other.logprob for other in rows[0].top_logprobs), reverse=True)


def chat_signals(logprobs: Any, tokens: int) -> Signals:
    """Signals of a chat answer of so many tokens, by its ``logprobs``."""
    read = maybe(logprobs, ChatLogprobs)
    if read is None or not read.content:
        return signals.missing(tokens)
    top = [sorted((other.logprob for other in row.top_logprobs), reverse=True) for row in read.content]
    return signals.measure([row.logprob for row in read.content], top)


@dataclass(frozen=True, slots=True)
class Said:
    """What a chat model said: the answer's text, and whether it thought, declined, or called a tool."""

    text: str
    thought: bool
    declined: bool
    called: bool


def said(message: Message) -> Said:
    """A message in any of the dialects: a text, or a list of parts of which some are thinking."""
    parts = message.content if isinstance(message.content, list) else []
    kinds = [str(part.get("type")) for part in parts if isinstance(part, dict)]
    texts = [message.content] if isinstance(message.content, str) else [_text(part) for part in parts]
    return Said(
        text="".join(texts),
        thought=bool(message.reasoning_content or message.reasoning or {"thinking", "reasoning"} & {*kinds}),
        declined=bool(message.refusal) or "refusal" in kinds,
        called=bool(message.tool_calls) or "tool_use" in kinds,
    )


def _text(part: Any) -> str:
    if isinstance(part, str):
        return part
    text = part.get("text") if isinstance(part, dict) and part.get("type") in ("text", "output_text") else ""
    return text if isinstance(text, str) else ""


def served(value: Any, where: str) -> dict[str, int | None]:
    """The models of a ``/models`` document, each with its longest sequence where the server tells."""
    limits = {model.id: model.max_model_len for model in shaped(value, ServedModels, where).data}
    return {
        name: limit if isinstance(limit, int) and not isinstance(limit, bool) and limit > 1 else None
        for name, limit in limits.items()
    }


class EventReader:
    """Server-sent events from bytes that are cut anywhere (WHATWG HTML, section 9.2.6).

    Lines end with CR, LF or both; comments and fields other than ``data`` are skipped; the lines of an
    event's data are joined by LF. What is left of an unfinished line at the end of a stream is no event.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._line = b""
        self._data: list[bytes] = []
        self._size = 0
        self._after_cr = False
        self._begun = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The data of the events that ``chunk`` completes.

        Raises:
            Unanswered: if an event is larger than `LARGEST_EVENT`.
        """
        if not chunk:
            return
        after_cr, self._after_cr = self._after_cr, chunk.endswith(b"\r")
        text = self._line + (chunk.removeprefix(b"\n") if after_cr else chunk)
        *lines, self._line = re.split(rb"\r\n|\r|\n", text)
        if len(self._line) + self._size > LARGEST_EVENT:
            raise garbage(self._where, f"has an event of more than {LARGEST_EVENT} bytes")
        for line in lines:
            yield from self._take(line)

    def end(self) -> Iterator[bytes]:
        """The data of a last event that no blank line follows."""
        yield from self._take(b"")

    def _take(self, line: bytes) -> Iterator[bytes]:
        if not self._begun:
            self._begun, line = True, line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            if self._data:
                yield b"\n".join(self._data)
            self._data, self._size = [], 0
            return
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" "))
            self._size += len(value)
