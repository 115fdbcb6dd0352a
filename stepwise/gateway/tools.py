"""Tools and formats of answers, as requests name them; the models' servers get them as they came."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from stepwise.gateway.strict import Name, Strict, Text

Schema = dict[str, Any]
"""A JSON schema."""


class Function(Strict):
    name: Name
    description: Text | None = None
    parameters: Schema | None = None
    strict: bool | None = None


class Tool(Strict):
    bookkeeping = frozenset({"cache_control"})

    type: Literal["function"]
    function: Function


class Chosen(Strict):
    name: Name


class Choice(Strict):
    """Whether a tool is to be called, and which; one word where it is no certain one."""

    type: Literal["none", "auto", "required", "function"]
    function: Chosen | None = None

    @property
    def as_sent(self) -> Any:
        return self.type if self.function is None else self.model_dump()


def _choice(given: Any) -> Any:
    return {"type": given} if isinstance(given, str) else given


ToolChoice = Annotated[Choice, BeforeValidator(_choice, json_schema_input_type=str | Choice)]


class Called(Strict):
    name: Name
    arguments: Text


class ToolCall(Strict):
    """A call that the assistant made earlier."""

    bookkeeping = frozenset({"index"})

    id: Name
    type: Literal["function"] = "function"
    function: Called


class JsonSchema(Strict):
    name: Name
    description: Text | None = None
    definition: Schema = Field(default_factory=dict, alias="schema")  # pydantic has a `schema` of its own
    strict: bool | None = None

    @classmethod
    def _acts_on(cls, name: str, value: Any) -> bool:
        return name == "schema" or super()._acts_on(name, value)


class ResponseFormat(Strict):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
