"""What a request may hold. What would change the text and is not supported is refused by name
(`stepwise.gateway.fields`)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, LiteralString, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    model_validator,
)
from pydantic_core import PydanticCustomError

from stepwise.gateway import fields
from stepwise.gateway.failures import printable, shown

MAX_CHAINS = 16
"""Chains of one request: prompts x n."""
MAX_MESSAGES = 2048
MAX_PARTS = 256
MAX_STOPS = 64
LONGEST_STOP = 256
"""Characters: text that may begin a stop string is held back and compared at every token."""
LONGEST_NAME = 256
"""Characters of a model's name: every chunk of a stream repeats it."""


def _whole_number(value: Any) -> Any:
    """256.0 is 256; other fractions are left to be refused."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


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


def _unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PydanticCustomError("unicode", "must be Unicode, without halves of surrogate pairs") from None
    return text


Text = Annotated[str, AfterValidator(_unicode)]
Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Whole = Annotated[int, BeforeValidator(_whole_number, json_schema_input_type=int)]
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


class Strict(BaseModel):
    """No conversions, no unknown fields; null means not given."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    bookkeeping: ClassVar[frozenset[str]] = frozenset()
    neutral: ClassVar[fields.Neutral] = {}
    _ignored: tuple[str, ...] = PrivateAttr(())

    @model_validator(mode="wrap")
    @classmethod
    def _sort_out(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Stops at the first field that cannot be accepted, so that a body of many is cheap to refuse."""
        if not isinstance(data, dict):
            raise PydanticCustomError("object", "must be an object, not {came}", {"came": shown(data)})
        kept: dict[str, Any] = {}
        ignored: list[str] = []
        for name, value in data.items():
            if value is not None and cls._acts_on(name, value):
                kept[name] = value
            elif value is not None and name in cls.bookkeeping:
                ignored.append(name)
        made = handler(kept)
        made._ignored = tuple(ignored)
        return made

    @classmethod
    def _acts_on(cls, name: str, value: Any) -> bool:
        if name in cls.model_fields:
            return True
        if name in cls.neutral:
            if not fields.asks_for_nothing(value, cls.neutral[name]):
                raise _complaint("is not supported; leave it out", name)
        elif name not in cls.bookkeeping:
            raise _complaint("is not a field that this server knows", name)
        return False


def _complaint(reason: LiteralString, field: str) -> PydanticCustomError:
    return PydanticCustomError("field", reason, {"field": printable(field)})


class Options(Strict):
    """The knob: what a chain may cost, or who routes it.

    Attributes:
        budget: expected cost as a fraction of large-only, in (0, 1].
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
    neutral = {"continuous_usage_stats": (False,), "include_obfuscation": (False,)}

    include_usage: bool = False


class GenerationRequest(Strict):
    """What both endpoints take."""

    bookkeeping = fields.REQUEST_BOOKKEEPING
    neutral = fields.REQUEST_NEUTRAL

    model: Annotated[str, Field(max_length=LONGEST_NAME)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Annotated[Whole, Field(ge=1, le=MAX_CHAINS)] = 1
    stop: Stops = []
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

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        list[Part],
        Field(max_length=MAX_PARTS),
        FailFast(),
        BeforeValidator(_parts, json_schema_input_type=str | list[Part]),
    ] = []

    @property
    def text(self) -> str:
        return "\n".join(part.text for part in self.content)

    @property
    def empty(self) -> bool:
        """Whether it is an instruction that says nothing."""
        return self.role in ("system", "developer") and not self.text.strip()


class ChatRequest(GenerationRequest):
    """``POST /v1/chat/completions``."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES), FailFast()]
    max_completion_tokens: Annotated[Whole, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _ends_with_the_user(self) -> ChatRequest:
        if self.messages[-1].role != "user":
            raise ValueError(
                f"the last of the messages must be the user's, not the {self.messages[-1].role}'s"
            )
        return self

    @property
    def ignored(self) -> list[str]:
        parts = (part for message in self.messages for part in (message, *message.content))
        of_messages = {f"messages.{name}" for part in parts for name in part._ignored}
        return sorted({*super().ignored, *of_messages})

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
        *before, last = [message for message in self.messages if not message.empty]
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

    prompt: Prompts

    @property
    def limit(self) -> int | None:
        return self.max_tokens

    def questions(self, *, conversation: bool) -> list[str]:
        """A prompt each; there is nothing before it."""
        return list(self.prompt)
