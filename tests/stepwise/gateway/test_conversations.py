"""Conversations, tools and response formats, as clients ask for them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from stepwise.engine.cost import Tokens
from stepwise.engine.engine import Engine
from stepwise.engine.stop_rules import StepRule
from stepwise.gateway import Keys, Tenant
from stepwise.gateway.keys import digest
from stepwise.routers import Confidence, ThresholdRouter
from stepwise.routers.fixed import Always
from tests.stepwise.backends.chat_server import upstream
from tests.stepwise.backends.test_turns import by_model, call, chat
from tests.stepwise.conversing import Conversing
from tests.stepwise.gateway.serving import app_of, client, serving

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
TOOL = {"name": "weather", "description": "Of today.", "parameters": {"type": "object", "properties": {}}}
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "developer", "content": "Be kind."},
    {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
]


def world(model: Conversing, **changes: Any) -> Engine:
    return Engine(
        {"small": model}, prompt="{question}\n", rule=StepRule("\n", 64, 4), cost=Tokens(), **changes
    )


def answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


async def say(http: Any, messages: list[Any], key: str = "none", **more: Any) -> Any:
    body = {"model": "stepwise", "messages": messages, **more}
    got = await http.post(CHAT, json=body, headers={"Authorization": f"Bearer {key}"})
    assert got.status_code == 200, got.text
    return got.json()["choices"][0]


async def test_system_texts_and_earlier_turns_reach_the_model_as_turns() -> None:
    model = Conversing(lambda _: "Yes.")
    async with client(app_of(world(model), Always("small"))) as http:
        await say(http, [*TALK, answer("Yes."), {"role": "user", "content": "three"}])
    heard = "[system]Be brief.\n\nBe kind.[user]one\ntwo[assistant]Yes.[user]three[assistant]"
    assert model.read == [heard]


async def test_a_later_turn_is_priced_as_cached_for_whoever_went_through_the_earlier_one() -> None:
    tenants = [Tenant(name, digest(name)) for name in ("alice", "bob")]
    app = app_of(world(Conversing(lambda _: " Yes.")), Always("small"), keys=Keys(tenants))
    async with client(app) as http:
        first = await say(http, TALK, "alice")
        back = answer(first["message"]["content"].strip())  # clients trim
        later = [*TALK, back, {"role": "user", "content": "three"}]
        mine = (await say(http, later, "alice"))["stepwise"]["usage"]["small"]
        stranger = (await say(http, later, "bob"))["stepwise"]["usage"]["small"]
    assert mine["cached"] == first["stepwise"]["usage"]["small"]["prompt"] > 0 == stranger["cached"]


async def test_models_that_take_no_conversation_say_why() -> None:
    app = app_of(world(Conversing(lambda _: "Yes."), system=None))
    async with client(app) as http:
        refused = await http.post(CHAT, json={"model": "stepwise", "messages": TALK})
        error = refused.json()["error"]
        assert refused.status_code == 400 and error["param"] == "messages"
        assert "trained on bare questions and take no conversation" in error["message"]
        assert (await http.post(CHAT, json={"model": "stepwise", "messages": TALK[-1:]})).status_code == 200
        form = {"response_format": {"type": "json_object"}}
        refused = await http.post(CHAT, json={"model": "stepwise", "messages": TALK[-1:], **form})
        assert "need a model behind a chat endpoint" in refused.json()["error"]["message"]


class Person(BaseModel):
    name: str
    age: int


PERSON = '{"name": "Ada", "age": 36}'


async def ask(answers: Any, use: Any, threshold: float = 1.0) -> tuple[Any, list[dict[str, Any]]]:
    """What an openai client gets from a gateway over two chat models; and what these were asked."""
    router = ThresholdRouter(Confidence("mean"), threshold, "confidence")
    async with upstream(answers) as served:
        models = [served.model(name, logprobs=True) for name in ("small", "large")]
        engine = await served.engine(*models)

        def run(url: str) -> Any:
            with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as user:
                return use(user)

        with serving(app_of(engine, router)) as url:
            got = await asyncio.to_thread(run, url)
        await engine.close()
    return got, served.bodies


async def test_a_tool_is_called_and_its_result_comes_back() -> None:
    def use(user: openai.OpenAI) -> Any:
        tools: Any = [{"type": "function", "function": TOOL}]
        messages: Any = [{"role": "user", "content": "Rain?"}]
        whole = user.chat.completions.create(model="stepwise", messages=messages, tools=tools)
        stream = user.chat.completions.create(model="stepwise", messages=messages, tools=tools, stream=True)
        chunks = [chunk.choices[0] for chunk in stream]
        said = whole.choices[0].message
        assert said.tool_calls
        messages += [said, {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": "Rain."}]
        return whole, chunks, user.chat.completions.create(model="stepwise", messages=messages, tools=tools)

    def answers(body: dict[str, Any]) -> Any:
        last = body["messages"][-1]["role"] == "tool"
        return {**(chat("It rains.") if last else call(arguments='{"a": 1}')), "model": body["model"]}

    (whole, chunks, after), bodies = await ask(answers, use)
    choice = whole.choices[0]
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    assert choice.message.tool_calls[0].function.arguments == '{"a": 1}'
    (delta,) = [chunk.delta for chunk in chunks if chunk.delta.tool_calls]
    assert delta.tool_calls[0].function.name == "weather" and chunks[-1].finish_reason == "tool_calls"
    assert after.choices[0].message.content == "It rains." and after.choices[0].finish_reason == "stop"
    assert [message["role"] for message in bodies[-1]["messages"]] == ["user", "assistant", "tool"]
    assert whole.usage.prompt_tokens == 7 and whole.usage.completion_tokens == 5


async def test_an_output_that_is_not_of_the_schema_escalates() -> None:
    def use(user: openai.OpenAI) -> Any:
        messages: Any = [{"role": "user", "content": "Who?"}]
        return user.chat.completions.parse(model="stepwise", messages=messages, response_format=Person)

    small, large = chat('{"name": "Ada"}'), chat(PERSON)
    small["choices"][0]["logprobs"] = call()["choices"][0]["logprobs"]
    got, bodies = await ask(by_model(small, large), use)
    assert got.choices[0].message.parsed == Person(name="Ada", age=36)
    step = got.choices[0].stepwise["steps"][0]
    assert step["model"] == "large" and step["reason"] == "small: $: required is violated"
    assert bodies[0]["response_format"]["json_schema"]["name"] == "Person" and len(bodies) == 2
    assert got.choices[0].stepwise["usage"]["small"]["discarded"] == 5


@pytest.mark.parametrize("streamed", [False, True])
async def test_responses_call_tools_and_take_their_results(streamed: bool) -> None:
    def create(user: openai.OpenAI, said: Any) -> Any:
        asked: Any = {"model": "stepwise", "input": said, "tools": [{"type": "function", **TOOL}]}
        if not streamed:
            return user.responses.create(**asked)
        with user.responses.stream(**asked) as stream:
            events = list(stream)
            assert [event.sequence_number for event in events] == list(range(len(events)))
            return stream.get_final_response()

    def use(user: openai.OpenAI) -> Any:
        said: Any = [{"role": "user", "content": "Rain?"}]
        first = create(user, said)
        made = first.output[0]
        said += [*first.output, {"type": "function_call_output", "call_id": made.call_id, "output": "Rain."}]
        return first, create(user, said)

    def answers(body: dict[str, Any]) -> Any:
        last = body["messages"][-1]["role"] == "tool"
        return {**(chat("It rains.") if last else call(arguments='{"a": 1}')), "model": body["model"]}

    (first, second), bodies = await ask(answers, use)
    made = first.output[0]
    assert (made.type, made.name, made.arguments) == ("function_call", "weather", '{"a": 1}')
    assert first.status == second.status == "completed" and second.output_text == "It rains."
    sent = bodies[-1]["messages"]
    assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"] == made.call_id
    assert bodies[0]["tools"] == [{"type": "function", "function": TOOL}]


async def test_responses_give_structured_output() -> None:
    def use(user: openai.OpenAI) -> Any:
        return user.responses.parse(model="stepwise", input="Who?", text_format=Person)

    got, bodies = await ask(by_model(chat(PERSON), chat(PERSON)), use, threshold=100.0)
    assert got.output_parsed == Person(name="Ada", age=36)
    schema = bodies[0]["response_format"]["json_schema"]["schema"]
    assert set(schema["properties"]) == {"name", "age"}
    assert json.loads(PERSON) == got.output_parsed.model_dump()
