"""Turns that are one step: whether what a model wrote is what was asked for.

A model's message is JSON with ``content`` and ``tool_calls``, as chat endpoints write it. The schemas come
from strangers: they fetch nothing and match no regular expressions, and a check takes so many steps at most.
Their library is imported where one is checked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from stepwise.types import Form

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

MAX_WORK = 200_000
"""Steps of a check, each about a microsecond. A schema that needs more is as good as none."""
KEYWORD = 10
"""Steps that a keyword takes by itself."""
UNCHECKED = ("pattern", "patternProperties", "format", "unevaluatedItems", "unevaluatedProperties")
"""Keywords that are passed over: regular expressions can take forever, and so can the search for what no
other keyword has looked at."""


class _TooMuch(Exception):
    pass


def flaw(form: Form, text: str) -> str:
    """What is wrong with a message, '' if nothing is."""
    options, message = json.loads(form.options), json.loads(text)
    calls, choice = message["tool_calls"], options.get("tool_choice", "auto")
    if calls:
        functions = [] if choice == "none" else [tool["function"] for tool in options.get("tools", ())]
        tools = {function["name"]: function for function in functions}
        return next(filter(None, (_wrong_call(call["function"], tools) for call in calls)), "")
    if choice not in ("none", "auto"):
        return "it calls no tool"
    if "response_format" in options:
        return _wrong_content(message["content"], options["response_format"])
    return "" if message["content"].strip() else "it says nothing"


def spoken(text: str) -> str:
    """The text of a message."""
    return str(json.loads(text)["content"])


def _wrong_call(call: Mapping[str, Any], tools: Mapping[str, Any]) -> str:
    name = call["name"]
    if name not in tools:
        return f"it calls {name[:60]!r}, which is none of the tools"
    wrong = _wrong(call["arguments"] or "{}", {"type": "object", **(tools[name].get("parameters") or {})})
    return wrong and f"its call of {name[:60]!r}: {wrong}"


def _wrong_content(content: str, form: Mapping[str, Any]) -> str:
    schema = (
        form.get("json_schema", {}).get("schema") if form["type"] == "json_schema" else {"type": "object"}
    )
    return _wrong(content, schema or {})


def _wrong(text: str, schema: Mapping[str, Any]) -> str:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return "no JSON"
    from jsonschema.exceptions import ValidationError
    from referencing import Registry

    try:
        _checker(len(json.dumps(schema)))(schema, registry=Registry()).validate(value)
    except ValidationError as error:
        return f"{error.json_path}: {error.validator} is violated"
    except Exception:  # anything can come of a schema that is none; the model's server has accepted it
        return ""
    return ""


def _checker(size: int) -> Any:
    """A validator class with a budget of its own.

    Args:
        size: characters of the schema.
    """
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    left = MAX_WORK

    def spend(steps: int) -> None:
        nonlocal left
        left -= steps
        if left < 0:
            raise _TooMuch

    def counted(name: str, check: Callable[..., Any]) -> Callable[..., Iterator[ValidationError]]:
        def checked(validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
            if name == "additionalProperties" and "patternProperties" in schema:
                return  # it would match them
            spend(_steps(name, wanted, value, size))
            for error in check(validator, wanted, value, schema) or ():
                spend(len(error.message) // 50)  # it quotes what is wrong, however long that is
                yield error

        return checked

    checks = {name: counted(name, check) for name, check in Draft202012Validator.VALIDATORS.items()}
    return extend(Draft202012Validator, checks | dict.fromkeys(UNCHECKED, lambda *_: ()))


def _steps(name: str, wanted: Any, value: Any, size: int) -> int:
    """What a keyword may take beside the keywords within it."""
    items, named = (len(one) if isinstance(one, list | dict) else 1 for one in (value, wanted))
    if name == "uniqueItems":
        return KEYWORD + items**2
    if name in ("$ref", "$dynamicRef") and not str(wanted).startswith("#/"):
        return KEYWORD + size // 10  # a name is looked for in the whole schema
    return KEYWORD + items + named
