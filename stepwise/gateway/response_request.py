"""What ``POST /v1/responses`` may hold, and the same as a chat request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, FailFast, Field

from stepwise.gateway import fields
from stepwise.gateway.schemas import MAX_MESSAGES, MAX_PARTS, MAX_TOOLS, ChatRequest, Options
from stepwise.gateway.strict import LONGEST_NAME, Name, Strict, Text, Whole
from stepwise.gateway.tools import Schema


class InputPart(Strict):
    bookkeeping = fields.PART_BOOKKEEPING | {"logprobs"}
    neutral = fields.RESPONSE_PART_NEUTRAL

    type: Literal["input_text", "output_text", "text"]
    text: Text


def _parts(content: Any) -> Any:
    return [{"type": "input_text", "text": content}] if isinstance(content, str) else content


def _items(given: Any) -> Any:
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


Parts = Annotated[
    list[InputPart],
    Field(max_length=MAX_PARTS),
    FailFast(),
    BeforeValidator(_parts, json_schema_input_type=str | list[InputPart]),
]


class InputItem(Strict):
    """A message of the input, a call of a tool, or what came of one. Of answers that come back as they were
    given, ids and status are ignored."""

    bookkeeping = fields.MESSAGE_BOOKKEEPING - {"name"}

    type: Literal["message", "function_call", "function_call_output"] = "message"
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: Parts = Field(default_factory=list)
    call_id: Name | None = None
    name: Name | None = None
    arguments: Text | None = None
    output: Parts = Field(default_factory=list)

    @property
    def as_chat(self) -> dict[str, Any]:
        """As a message of a chat. What is missing is refused there."""
        if self.type == "function_call":
            call = {"id": self.call_id, "function": {"name": self.name, "arguments": self.arguments}}
            return {"role": "assistant", "tool_calls": [call]}
        if self.type == "function_call_output":
            return {"role": "tool", "tool_call_id": self.call_id, "content": _joined(self.output)}
        return {"role": self.role, "content": _joined(self.content)}


def _joined(parts: list[InputPart]) -> str:
    return "\n".join(part.text for part in parts)


class FunctionTool(Strict):
    """A tool, flat."""

    bookkeeping = frozenset({"defer_loading"})

    type: Literal["function"]
    name: Name
    description: Text | None = None
    parameters: Schema | None = None
    strict: bool | None = None


class TextFormat(Strict):
    type: Literal["text", "json_object", "json_schema"]
    name: Name | None = None
    description: Text | None = None
    definition: Schema | None = Field(default=None, alias="schema")
    strict: bool | None = None

    @classmethod
    def _acts_on(cls, name: str, value: Any) -> bool:
        return name == "schema" or super()._acts_on(name, value)

    @property
    def as_chat(self) -> dict[str, Any]:
        if self.type != "json_schema":
            return {"type": self.type}
        return {"type": self.type, "json_schema": self.model_dump(exclude={"type"}, by_alias=True)}


class TextOptions(Strict):
    neutral: ClassVar[fields.Neutral] = {"verbosity": ("medium",)}

    format: TextFormat | None = None


class ResponseRequest(Strict):
    """``POST /v1/responses``."""

    bookkeeping = fields.REQUEST_BOOKKEEPING
    neutral = fields.RESPONSE_NEUTRAL

    model: Annotated[str, Field(max_length=LONGEST_NAME)]
    input: Annotated[
        list[InputItem],
        Field(min_length=1, max_length=MAX_MESSAGES),
        FailFast(),
        BeforeValidator(_items, json_schema_input_type=str | list[InputItem]),
    ]
    instructions: Text | None = None
    stream: bool = False
    max_output_tokens: Annotated[Whole, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    tools: Annotated[list[FunctionTool], Field(max_length=MAX_TOOLS, default_factory=list), FailFast()]
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    stepwise: Options | None = None

    @property
    def ignored(self) -> list[str]:
        """Fields that were accepted and not used."""
        parts = (part for item in self.input for part in (item, *item.content, *item.output))
        return sorted({*self._ignored, *(f"input.{name}" for part in parts for name in part._ignored)})

    @property
    def as_chat(self) -> Mapping[str, Any]:
        """The same as a chat request."""
        instructions = [{"role": "system", "content": self.instructions}] if self.instructions else []
        shape = self.text.format if self.text else None
        return {
            "model": self.model, "stream": self.stream, "max_tokens": self.max_output_tokens,
            "temperature": self.temperature, "top_p": self.top_p,
            "messages": [*instructions, *_merged([item.as_chat for item in self.input])],
            "tools": [_tool(tool) for tool in self.tools],
            "tool_choice": _choice(self.tool_choice), "parallel_tool_calls": self.parallel_tool_calls,
            "response_format": None if shape is None else shape.as_chat,
            "stepwise": None if self.stepwise is None else self.stepwise.model_dump(),
        }  # fmt: skip


def _tool(tool: FunctionTool) -> dict[str, Any]:
    return {"type": "function", "function": tool.model_dump(exclude={"type"})}


def _choice(given: Any) -> Any:
    """A certain tool is named flat."""
    if not isinstance(given, dict):
        return given
    return {"type": given.get("type"), "function": {k: v for k, v in given.items() if k != "type"}}


def _merged(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the assistant says and calls in one turn is one message of a chat."""
    merged: list[dict[str, Any]] = []
    for message in messages:
        if merged and merged[-1]["role"] == "assistant" and "tool_calls" in message:
            merged[-1]["tool_calls"] = [*merged[-1].get("tool_calls", []), *message["tool_calls"]]
        else:
            merged.append(message)
    return merged


def as_chat(asked: ResponseRequest) -> ChatRequest:
    """The same chains.

    Raises:
        ValidationError: if something is missing.
    """
    return ChatRequest.model_validate(asked.as_chat)
