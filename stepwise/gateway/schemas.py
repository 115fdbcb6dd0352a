"""What a request may hold. An unsupported field is refused unless it asks for nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

MAX_CHAINS = 16
"""Chains of one request: prompts x n."""

Text = Annotated[str, Field(min_length=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]

NOTHING: Mapping[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("none",),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "metadata": ({},),
    "modalities": (["text"],),
    "parallel_tool_calls": (True, False),
    "prediction": (),
    "presence_penalty": (0,),
    "reasoning_effort": (),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (),
    "verbosity": (),
    "web_search_options": (),
}
"""Fields of OpenAI's API that are not supported, with the values that ask for nothing."""


class Strict(BaseModel):
    """No conversions, no unknown fields; null means not given."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:
        return {k: v for k, v in data.items() if v is not None} if isinstance(data, dict) else data


class Options(Strict):
    """The knob: what a chain may cost, or who routes it.

    Attributes:
        budget: expected cost as a fraction of large-only, in (0, 1].
        max_accuracy_loss: share of problems that only the large model gets right, in (0, 1).
        threshold: the router's threshold itself.
        router: name of a router or of a model of this server; "small" and "large" always work.
    """

    budget: Number | None = None
    max_accuracy_loss: Number | None = None
    threshold: Number | None = None
    router: Text | None = None

    @model_validator(mode="after")
    def _one_knob(self) -> Options:
        targets = self.budget is not None or self.max_accuracy_loss is not None
        if targets and self.threshold is not None:
            raise ValueError("give either a threshold, or a budget, a max_accuracy_loss or both")
        return self


class StreamOptions(Strict):
    include_usage: bool = False
    include_obfuscation: Literal[False] = False


class GenerationRequest(Strict):
    """What both endpoints take."""

    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHAINS)] = 1
    stop: Text | Annotated[list[Text], Field(max_length=4)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    user: str | None = None
    stepwise: Options | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_unsupported(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        for field in [name for name in data if name in NOTHING and name not in cls.model_fields]:
            if data[field] is not None and not any(_same(data[field], value) for value in NOTHING[field]):
                raise PydanticCustomError("not_supported", "is not supported; leave it out", {"field": field})
        return {name: value for name, value in data.items() if name not in NOTHING}

    @model_validator(mode="after")
    def _stream_options_need_a_stream(self) -> GenerationRequest:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only allowed when stream is true")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


def _same(given: Any, neutral: Any) -> bool:
    """Equality that keeps False and 0 apart: for completions, ``logprobs: 0`` asks for something."""
    return bool(given == neutral) and isinstance(given, bool) == isinstance(neutral, bool)


class Part(Strict):
    type: Literal["text"]
    text: str


class Message(Strict):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]
    name: str | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content)


class ChatRequest(GenerationRequest):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _ends_with_the_user(self) -> ChatRequest:
        if self.messages[-1].role != "user":
            raise ValueError(
                f"the last of the messages must be the user's, not the {self.messages[-1].role}'s"
            )
        return self

    @property
    def limit(self) -> int | None:
        given = [value for value in (self.max_tokens, self.max_completion_tokens) if value is not None]
        return min(given, default=None)

    def questions(self, *, conversation: bool) -> list[str]:
        """The question: the user's last message, behind everything before it if that is allowed.

        System texts come as they are, earlier turns as "User: ..." and "Assistant: ...", each a
        paragraph.

        Raises:
            ValueError: if there is something before it and that is not allowed.
        """
        *before, last = self.messages
        if before and not conversation:
            raise ValueError(
                "messages must be one user message here: the models and their router were trained on bare "
                "questions, so system messages and earlier turns are refused; leave them out, or start the "
                "server with --conversation include"
            )
        return ["\n\n".join([*map(_paragraph, before), last.text])]


def _paragraph(message: Message) -> str:
    spoken = {"user": "User: ", "assistant": "Assistant: "}
    return spoken.get(message.role, "") + message.text


class CompletionRequest(GenerationRequest):
    """``POST /v1/completions``. Each prompt is a question."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=MAX_CHAINS)]

    @property
    def limit(self) -> int | None:
        return self.max_tokens

    def questions(self, *, conversation: bool) -> list[str]:
        """A prompt each; there is nothing before it."""
        return [self.prompt] if isinstance(self.prompt, str) else list(self.prompt)
