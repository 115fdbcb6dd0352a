"""What a request may hold. What would change the text and is not supported is refused by name
(`stepwise.gateway.fields`)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, FailFast, Field, model_validator
from pydantic_core import PydanticCustomError

from stepwise.gateway import fields
from stepwise.gateway.failures import shown
from stepwise.gateway.strict import LONGEST_NAME, Name, Number, Strict, Text, Whole
from stepwise.gateway.tools import ResponseFormat, Tool, ToolCall, ToolChoice
from stepwise.types import Form, Turn

MAX_CHAINS = 16
"""Chains of one request: prompts x n."""
MAX_MESSAGES = 2048
MAX_PARTS = 256
MAX_STOPS = 64
LONGEST_STOP = 256
"""Characters: text that may begin a stop string is held back and compared at every token."""
MAX_TOOLS = 256


def _one_or_many(value: Any) -> Any:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise PydanticCustomError(
            "text", "must be a string or a list of strings, not {came}", {"came": shown(value)}
        )
    return value


def _parts(content: Any) -> Any:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise PydanticCustomError(
            "content", "must be a string or a list of text parts, not {came}", {"came": shown(content)}
        )
    return content


Stop = Annotated[str, Field(min_length=1, max_length=LONGEST_STOP)]
Stops = Annotated[
    list[Stop],
    Field(max_length=MAX_STOPS),
    FailFast(),
    BeforeValidator(_one_or_many, json_schema_input_type=Stop | list[Stop]),
]
Prompts = Annotated[
    list[Text],
    Field(min_length=1, max_length=MAX_CHAINS),
    FailFast(),
    BeforeValidator(_one_or_many, json_schema_input_type=str | list[str]),
]


class Options(Strict):
    """The knob: what a chain may cost, or who routes it.

    Attributes:
        budget: expected cost as a fraction of large-only cost, in (0, 1]; not in dollars.
        max_accuracy_loss: share of problems that only the large model gets right, in (0, 1).
        threshold: the router's threshold itself.
        alpha: of a router that chooses by SCOPE's estimates: 0 looks at cost alone, 1 at correctness alone.
        router: name of a router or of a model of this server; "small" and "large" always work.
    """

    budget: Number | None = None
    max_accuracy_loss: Number | None = None
    threshold: Number | None = None
    alpha: Annotated[Number, Field(ge=0, le=1)] | None = None
    router: Name | None = None

    @model_validator(mode="after")
    def _one_knob(self) -> Options:
        targets = self.budget is not None or self.max_accuracy_loss is not None
        if targets and self.threshold is not None:
            raise ValueError("give either a threshold, or a budget, a max_accuracy_loss or both")
        return self


class StreamOptions(Strict):
    neutral: ClassVar[fields.Neutral] = {"continuous_usage_stats": (False,), "include_obfuscation": (False,)}

    include_usage: bool = False


class GenerationRequest(Strict):
    """What both endpoints take."""

    bookkeeping = fields.REQUEST_BOOKKEEPING
    neutral = fields.REQUEST_NEUTRAL

    model: Annotated[str, Field(max_length=LONGEST_NAME)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Annotated[Whole, Field(ge=1, le=MAX_CHAINS)] = 1
    stop: Stops = Field(default_factory=list)
    max_tokens: Annotated[Whole, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[Whole, Field(ge=-(2**63), lt=2**63)] | None = None
    stepwise: Options | None = None

    @property
    def ignored(self) -> list[str]:
        """Fields that were accepted and not used."""
        unused = ["stream_options"] if self.stream_options is not None and not self.stream else []
        return sorted({*self._ignored, *unused})

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


class Part(Strict):
    bookkeeping = fields.PART_BOOKKEEPING
    neutral = fields.PART_NEUTRAL

    type: Literal["text"]
    text: Text


class Message(Strict):
    bookkeeping = fields.MESSAGE_BOOKKEEPING
    neutral = fields.MESSAGE_NEUTRAL

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[
        list[Part],
        Field(max_length=MAX_PARTS),
        FailFast(),
        BeforeValidator(_parts, json_schema_input_type=str | list[Part]),
    ] = Field(default_factory=list)

    tool_calls: Annotated[list[ToolCall], Field(max_length=MAX_TOOLS, default_factory=list), FailFast()]
    tool_call_id: Name | None = None

    @model_validator(mode="after")
    def _answers_a_call(self) -> Message:
        if (self.role == "tool") != (self.tool_call_id is not None):
            raise ValueError("tool_call_id belongs into the messages of role 'tool', and into all of them")
        if self.tool_calls and self.role != "assistant":
            raise ValueError("tool_calls belong into the assistant's messages")
        return self

    @property
    def text(self) -> str:
        return "\n".join(part.text for part in self.content)

    @property
    def empty(self) -> bool:
        """Whether it is an instruction that says nothing."""
        return self.role in ("system", "developer") and not self.text.strip()

    @property
    def turn(self) -> Turn:
        """As every model's chat template takes it."""
        role = "system" if self.role in ("system", "developer") else self.role
        return Turn(role, self.text)  # type: ignore[arg-type]

    @property
    def written_out(self) -> str:
        """As a chat endpoint takes it: JSON."""
        turn = self.turn
        message: dict[str, Any] = {"role": turn.role, "content": turn.text}
        if self.tool_calls:
            calls = [call.model_dump(exclude_none=True) for call in self.tool_calls]
            message |= {"content": turn.text or None, "tool_calls": calls}
        if self.tool_call_id is not None:
            message["tool_call_id"] = self.tool_call_id
        return json.dumps(message)


class ChatRequest(GenerationRequest):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES), FailFast()]
    max_completion_tokens: Annotated[Whole, Field(ge=1)] | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS, default_factory=list), FailFast()]
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    include_reasoning: bool = False
    response_format: ResponseFormat | None = None

    @model_validator(mode="after")
    def _can_be_answered(self) -> ChatRequest:
        last = self.messages[-1].role
        if last not in ("user", "tool"):
            raise ValueError(f"the last of the messages must be the user's, not the {last}'s")
        if not any(message.role == "user" for message in self.messages):
            raise ValueError("one of the messages must be the user's")
        if not self.tools and self.tool_choice is not None and self.tool_choice.type not in ("none", "auto"):
            raise ValueError("tool_choice needs tools to choose from")
        return self

    @property
    def ignored(self) -> list[str]:
        parts = (part for message in self.messages for part in (message, *message.content))
        of_messages = {f"messages.{name}" for part in parts for name in part._ignored}
        return sorted({*super().ignored, *of_messages})

    @property
    def apart(self) -> bool:
        return self.include_reasoning and self.form is None

    @property
    def turn(self) -> int:
        return sum(message.role == "user" for message in self.messages)

    @property
    def limit(self) -> int | None:
        given = [value for value in (self.max_tokens, self.max_completion_tokens) if value is not None]
        return min(given, default=None)

    def questions(self, *, conversation: bool) -> list[str]:
        """The question: the user's last message, behind everything before it in a ``conversation`` that is to
        be one text: system texts as they are, earlier turns as "User: ..." and "Assistant: ...", each a
        paragraph."""
        *before, last = self._said
        return ["\n\n".join([*(map(_paragraph, before) if conversation else ()), last.text])]

    @property
    def turns(self) -> tuple[Turn, ...]:
        """What was said before the question."""
        return tuple(message.turn for message in self._said[:-1])

    @property
    def _said(self) -> list[Message]:
        """The messages up to the user's last one, without those that say nothing."""
        last = max(i for i, message in enumerate(self.messages) if message.role == "user")
        return [message for message in self.messages[: last + 1] if not message.empty]

    @property
    def form(self) -> Form | None:
        """What the answer has to be, where it is written whole: with tools, or in a given format."""
        spoken = any(message.tool_calls or message.role == "tool" for message in self.messages)
        shaped = self.response_format is not None and self.response_format.type != "text"
        if not (spoken or shaped or self.tools):
            return None
        messages = (message.written_out for message in self.messages if not message.empty)
        return Form(tuple(messages), json.dumps(dict(self._options()), sort_keys=True))

    def _options(self) -> Iterator[tuple[str, Any]]:
        if self.tools:
            yield "tools", [tool.model_dump(exclude_none=True) for tool in self.tools]
            if self.tool_choice is not None:
                yield "tool_choice", self.tool_choice.as_sent
            if self.parallel_tool_calls is not None:
                yield "parallel_tool_calls", self.parallel_tool_calls
        if self.response_format is not None and self.response_format.type != "text":
            yield "response_format", self.response_format.model_dump(exclude_none=True, by_alias=True)


def _paragraph(message: Message) -> str:
    spoken = {"user": "User: ", "assistant": "Assistant: "}
    return spoken.get(message.role, "") + message.text


class CompletionRequest(GenerationRequest):
    """``POST /v1/completions``. Each prompt is a question."""

    prompt: Prompts

    @property
    def limit(self) -> int | None:
        return self.max_tokens

    turns: ClassVar[tuple[Turn, ...]] = ()
    turn: ClassVar[int] = 1
    apart: ClassVar[bool] = False
    form: ClassVar[None] = None

    def questions(self, *, conversation: bool) -> list[str]:
        """A prompt each; there is nothing before it."""
        return list(self.prompt)
