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

MAX_CHECKS = 20_000
"""Keywords that a check looks at. A schema that needs more is as good as none."""
EXPENSIVE = ("pattern", "patternProperties", "format")
"""Keywords that are not checked: regular expressions can take forever."""


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
        _checker()(schema, registry=Registry()).validate(value)
    except ValidationError as error:
        return f"{error.json_path}: {error.validator} is violated"
    except Exception:  # anything can come of a schema that is none; the model's server has accepted it
        return ""
    return ""


def _checker() -> Any:
    """A validator class with a budget of its own."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    left = [MAX_CHECKS]

    def counted(check: Callable[..., Any]) -> Callable[..., Iterator[ValidationError]]:
        def checked(*place: Any) -> Iterator[ValidationError]:
            left[0] -= 1
            if left[0] < 0:
                raise _TooMuch
            yield from check(*place) or ()

        return checked

    checks = {name: counted(check) for name, check in Draft202012Validator.VALIDATORS.items()}
    return extend(Draft202012Validator, checks | dict.fromkeys(EXPENSIVE, lambda *_: ()))
