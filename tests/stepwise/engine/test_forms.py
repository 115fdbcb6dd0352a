"""Whether an answer is what was asked for; schemas come from strangers."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwise.engine.forms import flaw, spoken
from stepwise.types import Form

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": CITY}}]


def form(**options: Any) -> Form:
    return Form(('{"role": "user", "content": "?"}',), json.dumps(options))


def shape(schema: Any) -> Form:
    return form(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})


def message(content: str = "", *calls: tuple[str, str]) -> str:
    made = [{"id": "1", "function": {"name": name, "arguments": arguments}} for name, arguments in calls]
    return json.dumps({"content": content, "tool_calls": made})


@pytest.mark.parametrize(
    "asked, written, wrong",
    [
        (form(tools=TOOLS), message("", ("weather", '{"city": "Rome"}')), ""),
        (form(tools=TOOLS), message("It rains."), ""),
        (form(tools=TOOLS), message(" "), "it says nothing"),
        (form(tools=TOOLS), message("", ("whether", "{}")), "it calls 'whether', which is none of the tools"),
        (form(tools=TOOLS), message("", ("weather", "{}")), "its call of 'weather': $: required is violated"),
        (form(tools=TOOLS), message("", ("weather", '{"city"')), "its call of 'weather': no JSON"),
        (form(tools=TOOLS), message("", ("weather", "")), "its call of 'weather': $: required is violated"),
        (
            form(tools=TOOLS),
            message("", ("weather", '{"city": "Rome"}'), ("weather", '{"city": 1}')),
            "its call of 'weather': $.city: type is violated",
        ),
        (form(tools=TOOLS, tool_choice="required"), message("It rains."), "it calls no tool"),
        (
            form(tools=TOOLS, tool_choice="none"),
            message("", ("weather", "{}")),
            "it calls 'weather', which is",
        ),
        (form(response_format={"type": "json_object"}), message("{}"), ""),
        (form(response_format={"type": "json_object"}), message("[]"), "$: type is violated"),
        (shape(CITY), message('{"city": "Rome"}'), ""),
        (shape(CITY), message('{"city": "Ro'), "no JSON"),
        (shape(CITY), message('{"city": 3}'), "$.city: type is violated"),
        (shape({}), message("3"), ""),
        (form(), message("After the tools: fine."), ""),
        (shape({"additionalProperties": False}), message('{"a": 1}'), "$: additionalProperties is violated"),
        (shape({"$ref": "#/$defs/y", "$defs": {"y": CITY}}), message("{}"), "$: required is violated"),
        (shape({"$ref": "#y", "$defs": {"y": {"$anchor": "y", **CITY}}}), message("{}"), "$: required is"),
        (
            shape(
                {"items": {"required": ["a"], "properties": {"a": {"type": "integer"}, "b": {"enum": [1]}}}}
            ),
            message(json.dumps([{"a": 1, "b": 1}] * 999 + [{}])),
            "$[999]: required is violated",
        ),
    ],
)
def test_what_is_wrong_is_said(asked: Form, written: str, wrong: str) -> None:
    assert flaw(asked, written).startswith(wrong) and bool(flaw(asked, written)) == bool(wrong)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
keywords = st.sampled_from(
    ["type", "$ref", "allOf", "properties", "items", "enum", "pattern", "$id", "minimum"]
)
schemas = st.dictionaries(keywords, json_values, max_size=4)


@given(schemas, json_values)
def test_any_schema_is_checked_or_passed_over(schema: Any, value: Any) -> None:
    assert isinstance(flaw(shape(schema), message(json.dumps(value))), str)


def deep(levels: int) -> Any:
    """A schema that takes two to the power of ``levels`` checks."""
    return {
        "$ref": "#/$defs/0",
        "$defs": {
            **{str(i): {"allOf": [{"$ref": f"#/$defs/{i + 1}"}] * 2} for i in range(levels)},
            str(levels): {"type": "string"},
        },
    }


def named(count: int, keyword: str) -> Any:
    """Schemas that are found by name."""
    return {str(i): {keyword: str(i)} for i in range(count)} | {"y": {keyword: "y"}}


@pytest.mark.parametrize(
    "schema, value",
    [
        (deep(40), "x"),
        ({"type": "string", "pattern": "(a+)+$"}, "a" * 50 + "!"),
        ({"$ref": "#"}, "x"),
        ({"$ref": "http://127.0.0.1:9/schema.json"}, "x"),
        ({"patternProperties": {"(a+)+$": {}}, "additionalProperties": False}, {"a" * 50 + "!": 1}),
        ({"patternProperties": {"(a+)+$": {}}, "unevaluatedProperties": False}, {"a" * 50 + "!": 1}),
        ({"items": {"$ref": "#y"}, "$defs": named(30_000, "$anchor")}, [1] * 300),
        ({"items": {"$ref": "7"}, "$id": "http://x/a", "$defs": named(30_000, "$id")}, [1] * 300),
        ({"items": {"$dynamicRef": "#7"}, "$defs": named(30_000, "$dynamicAnchor")}, [1] * 300),
        ({"items": {"allOf": [{}] * 100_000}}, [1] * 300),
        ({"items": {"anyOf": [{"type": "integer"}] * 30_000}}, [1] * 3000),
        ({"items": {"enum": list(range(100_000))}}, [99_999] * 3000),
        ({"items": {"required": ["a"] * 100_000}}, [{"a": 1}] * 300),
        ({"items": {"properties": {str(i): {} for i in range(50_000)}}}, [{}] * 300),
        ({"allOf": [{"items": True}] * 15_000}, [1] * 30_000),
        ({"uniqueItems": True}, [[i] for i in range(20_000)] + [{}]),
        ({"anyOf": [{"not": {"anyOf": [{"minLength": 10**9}] * 9}}] * 2000}, "x" * 1_000_000),
    ],
)
def test_a_hostile_schema_costs_little(schema: Any, value: Any) -> None:
    begun = time.process_time()
    assert flaw(shape(schema), message(json.dumps(value))) == ""
    assert time.process_time() - begun < 10  # or hours, for 2^40 checks and those of (a+)+$


def test_the_text_of_a_message() -> None:
    assert spoken(message("It rains.", ("weather", "{}"))) == "It rains."
