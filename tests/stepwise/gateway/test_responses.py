"""``/v1/responses``: the same chains in another shape."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from stepwise.errors import BackendError
from stepwise.gateway import fields
from stepwise.gateway.fields import RESPONSE_NEUTRAL
from tests.stepwise.gateway.serving import app_of, chat, client, serving
from tests.worlds import engine

PATH = "/v1/responses"
QUESTION = "1 7 2"
TEXT = "0 + 1 = 1.\n1 + 7 = 8.\n8 + 2 = 10.\nThe answer is 10."


async def ask(body: dict[str, Any], **options: Any) -> Any:
    async with client(app_of(**options)) as http:
        return await http.post(PATH, json={"model": "stepwise", **body})


async def test_it_is_the_chat_s_answer_in_another_shape() -> None:
    async with client(app_of()) as http:
        answer = (await http.post(PATH, json={"model": "stepwise", "input": QUESTION})).json()
        same = (await http.post("/v1/chat/completions", json=chat(QUESTION))).json()
    (choice,) = same["choices"]
    assert answer["output"][0]["content"][0]["text"] == choice["message"]["content"] == TEXT
    assert answer["status"] == "completed" and answer["object"] == "response"
    assert answer["usage"]["output_tokens"] == same["usage"]["completion_tokens"]
    assert answer["usage"]["input_tokens"] == same["usage"]["prompt_tokens"]
    assert answer["stepwise"]["cost"] == choice["stepwise"]["cost"]
    assert [step["model"] for step in answer["stepwise"]["steps"]] == ["small", "large", "small", "small"]


async def test_what_was_said_comes_with_the_request() -> None:
    """As a client sends an earlier answer back: with its id, its status and its annotations."""
    earlier = {"type": "output_text", "text": "The answer is 3.", "annotations": []}
    turns = [
        {"role": "user", "content": [{"type": "input_text", "text": "1 2"}]},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [earlier]},
        {"role": "user", "content": QUESTION},
    ]
    refused = await ask({"input": turns})
    assert refused.status_code == 400 and "must be one user message here" in refused.text
    refused = await ask({"input": QUESTION, "instructions": "Be brief."})
    assert refused.status_code == 400
    refused = await ask({"input": turns[:2]})
    assert "input: its last message must be the user's" in refused.json()["error"]["message"]
    world: Any = engine()
    heard: list[str] = []

    async def hear(text: str) -> None:
        heard.append(text)
        raise BackendError("enough.")

    world.backends["large"]._before = hear
    body = {"input": turns, "model": "stepwise:large", "instructions": "Add."}
    assert (await ask(body, world=world, conversation=True)).status_code == 502
    assert heard[0] == "Add.\n\nUser: 1 2\n\nAssistant: The answer is 3.\n\n1 7 2\n"


async def test_a_chain_that_is_cut_is_incomplete() -> None:
    answer = (await ask({"input": QUESTION, "max_output_tokens": 12.0})).json()
    assert answer["status"] == answer["output"][0]["status"] == "incomplete"
    assert answer["incomplete_details"] == {"reason": "max_output_tokens"}


@pytest.mark.parametrize("field, values", RESPONSE_NEUTRAL.items())
async def test_what_would_change_the_text_is_refused(field: str, values: tuple[Any, ...]) -> None:
    for value in (*values, None):
        assert (await ask({"input": QUESTION, field: value})).status_code == 200
    refused = await ask({"input": QUESTION, field: "something"})
    assert refused.json()["error"]["message"] == f"{field}: is not supported; leave it out."


async def test_bookkeeping_is_listed() -> None:
    answer = await ask(
        {"input": [{"role": "user", "content": QUESTION, "id": "m"}], "store": True, "user": "x"}
    )
    assert answer.headers[fields.IGNORED] == "input.id, store, user"


async def test_a_failure_before_the_first_byte_is_a_status_and_later_an_event() -> None:
    world: Any = engine()
    calls: list[int] = []

    async def fail(_: str) -> None:
        calls.append(1)
        if len(calls) != 2:
            raise BackendError("the large model is down.")

    world.backends["large"]._before = fail
    body = {"input": QUESTION, "model": "stepwise:large", "stream": True}
    assert (await ask(body, world=world)).status_code == 502
    *_, last, rest = (await ask(body, world=world)).text.split("\n\n")
    assert rest == "" and last.startswith("event: response.failed\n")
    failed = json.loads(last.partition("data: ")[2])["response"]
    assert failed["status"] == "failed" and failed["error"]["message"] == "the large model is down."


def test_the_openai_client() -> None:
    with serving(app_of()) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none") as user:
        whole = user.responses.create(model="stepwise", input=QUESTION)
        assert whole.output_text == TEXT and whole.usage is not None
        events = list(user.responses.create(model="stepwise", input=QUESTION, stream=True))
        deltas = [each.delta for each in events if each.type == "response.output_text.delta"]
        assert "".join(deltas) == TEXT and len(deltas) > 1
        assert [each.sequence_number for each in events] == list(range(len(events)))
        last = events[-1]
        assert last.type == "response.completed" and last.response.output_text == TEXT
        assert last.response.usage == whole.usage
        with user.responses.stream(model="stepwise", input=QUESTION) as stream:
            assert stream.get_final_response().output_text == TEXT
        with pytest.raises(openai.BadRequestError, match="tools.0.type: must be 'function'"):
            user.responses.create(model="stepwise", input=QUESTION, tools=[{"type": "web_search"}])
