"""What a request may hold: what is not supported is refused, never ignored."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from stepwise.gateway.failures import invalid
from stepwise.gateway.schemas import NOTHING, ChatRequest, CompletionRequest

USER = {"role": "user", "content": "How many?"}


def read(**body: Any) -> ChatRequest:
    return ChatRequest.model_validate({"model": "stepwise", "messages": [USER], **body})


def refusal(**body: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        read(**body)
    return invalid(caught.value.errors()).message


@pytest.mark.parametrize("field", NOTHING)
def test_a_field_that_is_not_supported_may_only_ask_for_nothing(field: str) -> None:
    assert refusal(**{field: "something"}) == f"{field}: is not supported; leave it out."
    for nothing in (*NOTHING[field], None):
        read(**{field: nothing})


def test_zero_log_probabilities_are_not_none() -> None:
    with pytest.raises(ValidationError):
        CompletionRequest.model_validate({"model": "stepwise", "prompt": "1", "logprobs": 0})


@pytest.mark.parametrize(
    "body, message",
    [
        ({"colour": "red"}, "colour: is not a field that this server knows."),
        ({"model": 1}, "model: Input should be a valid string."),
        ({"messages": []}, "messages: List should have at least 1 item"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role: Input should be 'system'"),
        (
            {"messages": [USER, {"role": "assistant", "content": "x"}]},
            "the last of the messages must be the user's",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content"),
        ({"n": 0}, "n: Input should be greater than or equal to 1."),
        ({"n": 17}, "n: Input should be less than or equal to 16."),
        ({"n": "2"}, "n: Input should be a valid integer."),
        ({"n": True}, "n: Input should be a valid integer."),
        ({"temperature": 2.5}, "temperature: Input should be less than or equal to 2."),
        ({"temperature": float("nan")}, "temperature: "),
        ({"top_p": 0}, "top_p: Input should be greater than 0."),
        ({"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1."),
        ({"seed": 2**70}, "seed: "),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stream": "yes"}, "stream: Input should be a valid boolean."),
        ({"stream_options": {"include_usage": True}}, "stream_options is only allowed when stream is true"),
        ({"stepwise": {"budget": 0.3, "threshold": 1.0}}, "give either a threshold, or a budget"),
        ({"stepwise": {"thrift": 1}}, "stepwise.thrift: is not a field that this server knows."),
        ({"stepwise": "small"}, "stepwise: "),
    ],
)
def test_bad_fields_are_named(body: dict[str, Any], message: str) -> None:
    assert message in refusal(**body)


def test_null_means_not_given() -> None:
    assert read(n=None, stop=None, temperature=None, stepwise=None, tools=None) == read()


def test_the_smaller_of_two_limits_holds() -> None:
    assert read(max_tokens=30, max_completion_tokens=20).limit == 20 and read().limit is None


def test_the_question_is_the_user_s_last_message() -> None:
    parts = [{"type": "text", "text": "How"}, {"type": "text", "text": "many?"}]
    assert read(messages=[{"role": "user", "content": parts}]).questions(conversation=False) == ["How\nmany?"]
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "1?"},
        {"role": "assistant", "content": "1."},
        USER,
    ]
    with pytest.raises(ValueError, match="must be one user message here"):
        read(messages=turns).questions(conversation=False)
    told = read(messages=turns).questions(conversation=True)
    assert told == ["Be brief.\n\nUser: 1?\n\nAssistant: 1.\n\nHow many?"]
