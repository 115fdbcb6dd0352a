"""What a request may hold: bad values are refused in a sentence that names the field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from stepwise.gateway.failures import invalid
from stepwise.gateway.schemas import ChatRequest, CompletionRequest

USER = {"role": "user", "content": "How many?"}
TOOL = {"type": "function", "function": {"name": "count", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "count", "arguments": "{}"}}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "7"}


def read(**body: Any) -> ChatRequest:
    return ChatRequest.model_validate({"model": "stepwise", "messages": [USER], **body})


def refusal(**body: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        read(**body)
    return invalid(caught.value.errors()).message


def test_zero_log_probabilities_are_not_none() -> None:
    with pytest.raises(ValidationError):
        CompletionRequest.model_validate({"model": "stepwise", "prompt": "1", "logprobs": 0})


@pytest.mark.parametrize(
    "body, message",
    [
        ({"colour": "red"}, "colour: is not a field that this server knows."),
        ({"model": 1}, "model: must be a valid string, not 1."),
        ({"messages": []}, "messages: must have at least 1 item, not 0."),
        (
            {"messages": [{"role": "function", "content": "x"}]},
            "messages.0.role: must be 'system', 'developer', 'user', 'assistant' or 'tool', not 'function'",
        ),
        (
            {"messages": [{"role": "tool", "content": "x"}]},
            "messages.0: tool_call_id belongs into the messages of",
        ),
        (
            {"messages": [{**USER, "tool_calls": [CALL]}]},
            "messages.0: tool_calls belong into the assistant's",
        ),
        (
            {"messages": [{"role": "system", "content": "x"}, RESULT]},
            "one of the messages must be the user's",
        ),
        ({"tools": 3}, "tools: must be a valid list, not 3."),
        ({"tools": [{"type": "function"}]}, "tools.0.function: is required."),
        ({"tools": [{**TOOL, "type": "custom"}]}, "tools.0.type: must be 'function', not 'custom'."),
        ({"tool_choice": "required"}, "tool_choice needs tools to choose from"),
        ({"tools": [TOOL], "tool_choice": "perhaps"}, "tool_choice.type: must be 'none', 'auto', 'required'"),
        ({"response_format": {"type": "xml"}}, "response_format.type: must be 'text', 'json_object' or"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "definition": {}}}},
            "response_format.json_schema.definition: ",
        ),
        (
            {"messages": [USER, {"role": "assistant", "content": "x"}]},
            "the last of the messages must be the user's",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages.0.content.0.type:",
        ),
        (
            {"messages": [{"role": "user", "content": 3}]},
            "messages.0.content: must be a string or a list of text parts, not 3.",
        ),
        ({"messages": [{**USER, "colour": 1}]}, "messages.0.colour: is not a field that this server knows."),
        ({"messages": [3]}, "messages.0: must be an object, not 3."),
        ({"messages": [USER] * 2049}, "messages: must have at most 2048 items, not"),
        ({"n": 0}, "n: must be greater than or equal to 1, not 0."),
        ({"n": 17}, "n: must be less than or equal to 16, not 17."),
        ({"n": "2"}, "n: must be a valid integer, not '2'."),
        ({"n": True}, "n: must be a valid integer, not true."),
        ({"n": 1.5}, "n: must be a valid integer, not 1.5."),
        ({"temperature": 2.5}, "temperature: must be less than or equal to 2, not 2.5."),
        ({"temperature": float("nan")}, "temperature: "),
        ({"top_p": 0}, "top_p: must be greater than 0, not 0."),
        ({"max_tokens": 0}, "max_tokens: must be greater than or equal to 1, not 0."),
        ({"seed": 2**70}, "seed: "),
        ({"stop": ["a"] * 65}, "stop: must have at most 64 items, not 65."),
        ({"stop": 3}, "stop: must be a string or a list of strings, not 3."),
        ({"stop": ["a", {}]}, "stop.1: must be a valid string, not an object."),
        ({"stop": ""}, "stop"),
        ({"stream": "yes"}, "stream: must be a valid boolean, not 'yes'."),
        ({"stepwise": {"budget": 0.3, "threshold": 1.0}}, "give either a threshold, or a budget"),
        ({"stepwise": {"thrift": 1}}, "stepwise.thrift: is not a field that this server knows."),
        ({"stepwise": "small"}, "stepwise: must be an object, not 'small'."),
        ({"model": "m" * 257}, "model: must have at most 256 characters, not 'mmm"),
        ({"colour\x1b\ud800": 1}, "'colour\\x1b\\ud800': is not a field"),
    ],
)
def test_bad_fields_are_named(body: dict[str, Any], message: str) -> None:
    assert message in refusal(**body)


def test_null_means_not_given() -> None:
    assert read(n=None, stop=None, temperature=None, stepwise=None, tools=None) == read()


def test_a_number_without_a_fraction_is_whole() -> None:
    assert read(max_tokens=256.0, n=2.0, seed=7.0) == read(max_tokens=256, n=2, seed=7)


def test_more_stop_strings_than_openai_takes() -> None:
    assert read(stop="a").stop == ["a"] and len(read(stop=[str(i) for i in range(10)]).stop) == 10


def test_ten_thousand_wrong_fields_are_one_complaint() -> None:
    with pytest.raises(ValidationError) as caught:
        read(**{f"field{i}": i for i in range(10_000)})
    assert caught.value.error_count() == 1
    with pytest.raises(ValidationError) as caught:
        read(messages=[3] * 2000)
    assert caught.value.error_count() == 1


def test_the_smaller_of_two_limits_holds() -> None:
    assert read(max_tokens=30, max_completion_tokens=20).limit == 20 and read().limit is None


def test_the_question_is_the_user_s_last_message() -> None:
    parts = [{"type": "text", "text": "How"}, {"type": "text", "text": "many?"}]
    assert read(messages=[{"role": "user", "content": parts}]).questions(conversation=False) == ["How\nmany?"]
    silent = {"role": "system", "content": " "}
    assert read(messages=[silent, USER]).questions(conversation=False) == ["How many?"]
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1?"},
        {"role": "assistant", "content": "1."},
        USER,
    ]
    assert read(messages=turns).questions(conversation=False) == ["How many?"]
    assert [turn.text for turn in read(messages=turns).turns] == ["Be brief.", "1?", "1."]
    flat = read(messages=turns).questions(conversation=True)
    assert flat == ["Be brief.\n\nUser: 1?\n\nAssistant: 1.\n\nHow many?"]


def test_a_turn_of_a_given_form_is_passed_on_as_it_came() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    called = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    asked = read(messages=[USER, called, RESULT], tools=[TOOL], tool_choice="auto", response_format=form)
    assert asked.form is not None and asked.questions(conversation=False) == ["How many?"]
    assert [json.loads(message) for message in asked.form.messages] == [USER, called, RESULT]
    options = {"tools": [TOOL], "tool_choice": "auto", "response_format": form}
    assert json.loads(asked.form.options) == options
    named = read(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "count"}}).form
    assert named and json.loads(named.options)["tool_choice"]["function"] == {"name": "count"}
    assert read(tools=[], tool_choice="auto", response_format={"type": "text"}).form is None
