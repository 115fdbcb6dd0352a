"""The table of fields in docs/integration.md: each row does what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from stepwise.gateway import fields
from stepwise.gateway.failures import invalid
from stepwise.gateway.schemas import ChatRequest
from tests.stepwise.gateway.serving import app_of, chat, client

DOCS = (Path(__file__).parents[3] / "docs" / "integration.md").read_text()
TABLE = DOCS.split("| field | what it may hold |\n|---|---|\n")[1].split("\n\n")[0]


def row(line: str) -> tuple[list[str], list[Any] | None]:
    """The fields of a row, and the values that they may hold; None for any."""
    names, held = (re.findall(r"`([^`]+)`", cell) for cell in line.strip("| ").split(" | "))
    anything = "anything" in line
    return names, None if anything else [json.loads(value) for value in held]


ROWS = [row(line) for line in TABLE.splitlines()]
FIELDS = [(name, values) for names, values in ROWS for name in names]


def body(field: str, value: Any) -> dict[str, Any]:
    """A request with one field more, at the place that the table names."""
    *place, name = field.split("[].")
    message: dict[str, Any] = {"role": "user", "content": [{"type": "text", "text": "1 7"}]}
    request: dict[str, Any] = {"model": "stepwise", "messages": [message]}
    {0: request, 1: message, 2: message["content"][0]}[len(place)][name] = value
    return request


def test_the_table_is_complete() -> None:
    tables = [
        ("", fields.REQUEST_NEUTRAL, fields.REQUEST_BOOKKEEPING),
        ("messages[].", fields.MESSAGE_NEUTRAL, fields.MESSAGE_BOOKKEEPING),
        ("messages[].content[].", fields.PART_NEUTRAL, fields.PART_BOOKKEEPING),
    ]
    known: dict[str, Any] = {}
    for place, neutral, bookkeeping in tables:
        known |= {place + name: list(values) for name, values in neutral.items()}
        known |= {place + name: None for name in bookkeeping}
    assert dict(FIELDS) == known


@pytest.mark.parametrize("field, values", FIELDS)
async def test_a_row(field: str, values: list[Any] | None) -> None:
    async with client(app_of()) as http:
        for value in [None, *(["something", {"a": 1}] if values is None else values)]:
            answer = await http.post("/v1/chat/completions", json=body(field, value))
            assert answer.status_code == 200, answer.text
            named = field.replace("[]", "").replace("messages.content", "messages")
            ignored = answer.headers.get(fields.IGNORED)
            assert ignored == (named if values is None and value is not None else None)
    if values is not None:
        with pytest.raises(ValidationError) as caught:
            ChatRequest.model_validate(body(field, "something"))
        place = field.replace("[]", ".0")
        assert invalid(caught.value.errors()).message == f"{place}: is not supported; leave it out."


async def test_what_is_ignored_is_listed_in_streams_too() -> None:
    more: dict[str, Any] = {"user": "me", "metadata": {"a": 1}, "stream": True}
    async with client(app_of()) as http:
        answer = await http.post("/v1/chat/completions", json=chat("1 7", **more))
        assert answer.headers[fields.IGNORED] == "metadata, user"
        options: dict[str, Any] = {"stream_options": {"include_usage": True}}
        answer = await http.post("/v1/chat/completions", json=chat("1 7", **options))
        assert answer.headers[fields.IGNORED] == "stream_options"
