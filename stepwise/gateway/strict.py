"""What all parts of a request have in common: no conversions, no unknown fields, null means not given."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, LiteralString, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    model_validator,
)
from pydantic_core import PydanticCustomError

from stepwise.gateway import fields
from stepwise.gateway.failures import printable, shown

LONGEST_NAME = 256
"""Characters of a model's name: every chunk of a stream repeats it."""


def _whole_number(value: Any) -> Any:
    """256.0 is 256; other fractions are left to be refused."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


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
