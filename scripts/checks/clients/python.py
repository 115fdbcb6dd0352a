"""Clients in Python, each as its own documentation begins: what they do with a gateway.

Every function yields what it tries, and how. ``chat`` says whether the models take conversations, tools and
response formats. Libraries are imported where they are used: what is not installed is not tried.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import Any

Check = tuple[str, Callable[[], object]]
QUESTION = (
    "Ben planted 83 trees and lost 47 of them. Emma planted twice as many trees as Ben. "
    "How many trees did Emma plant?"
)
SYSTEM, EARLIER = "Be brief.", [("user", "Hello."), ("assistant", "Hello!")]
TALK: Any = [
    {"role": "system", "content": SYSTEM},
    *({"role": role, "content": text} for role, text in EARLIER),
    {"role": "user", "content": QUESTION},
]
ASKED: Any = [{"role": "user", "content": QUESTION}]
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}


def said(text: object) -> str:
    """A text that must not be empty."""
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"no text: {text!r}")
    return text


def openai(url: str, chat: bool) -> Iterator[Check]:
    from openai import AsyncOpenAI, OpenAI
    from pydantic import BaseModel

    class City(BaseModel):
        name: str

    user: Any = OpenAI(base_url=url, api_key="none")
    create = user.chat.completions.create

    async def asynchronous() -> object:
        async with AsyncOpenAI(base_url=url, api_key="none") as other:
            got = await other.chat.completions.create(model="stepwise", messages=ASKED)
            return said(got.choices[0].message.content)

    def stream(**more: Any) -> str:
        chunks = create(model="stepwise", messages=ASKED, stream=True, **more)
        return said("".join(c.choices[0].delta.content or "" for c in chunks if c.choices))

    def responses_stream() -> str:
        with user.responses.stream(model="stepwise", input=QUESTION) as events:
            return said(events.get_final_response().output_text)

    yield "sync", lambda: said(create(model="stepwise", messages=ASKED).choices[0].message.content)
    yield "async", lambda: asyncio.run(asynchronous())
    yield "stream", stream
    yield "responses", lambda: said(user.responses.create(model="stepwise", input=QUESTION).output_text)
    yield "responses stream", responses_stream
    if chat:
        flat = {"type": "function", **TOOL["function"]}
        parse = user.chat.completions.parse
        yield "conversation", lambda: said(create(model="stepwise", messages=TALK).choices[0].message.content)
        yield (
            "tools",
            lambda: create(model="stepwise", messages=ASKED, tools=[TOOL]).choices[0].message.tool_calls[0],
        )
        yield (
            "parse",
            lambda: (
                parse(model="stepwise", messages=ASKED, response_format=City).choices[0].message.parsed.name
            ),
        )
        yield (
            "responses tools",
            lambda: user.responses.create(model="stepwise", input=QUESTION, tools=[flat]).output[0].arguments,
        )
        yield (
            "responses parse",
            lambda: (
                user.responses.parse(model="stepwise", input=QUESTION, text_format=City).output_parsed.name
            ),
        )


def langchain_openai(url: str, chat: bool) -> Iterator[Check]:
    from langchain_openai import ChatOpenAI
    from pydantic import BaseModel

    class City(BaseModel):
        """A city."""

        name: str

    model: Any = ChatOpenAI(base_url=url, api_key="none", model="stepwise")  # type: ignore[arg-type]
    yield "invoke", lambda: said(model.invoke(QUESTION).content)
    yield "stream", lambda: said("".join(chunk.content for chunk in model.stream(QUESTION)))
    yield "ainvoke", lambda: said(asyncio.run(model.ainvoke(QUESTION)).content)
    if chat:
        yield "conversation", lambda: said(model.invoke([(m["role"], m["content"]) for m in TALK]).content)
        yield "bind_tools", lambda: model.bind_tools([City]).invoke(QUESTION).tool_calls[0]["args"]["name"]
        yield "with_structured_output", lambda: model.with_structured_output(City).invoke(QUESTION).name


def litellm(url: str, chat: bool) -> Iterator[Check]:
    import litellm as library

    about: Any = {"model": "openai/stepwise", "api_base": url, "api_key": "none"}
    ask: Any = library.completion

    def stream() -> str:
        chunks = ask(**about, messages=ASKED, stream=True)
        return said("".join(chunk.choices[0].delta.content or "" for chunk in chunks))

    yield "completion", lambda: said(ask(**about, messages=ASKED).choices[0].message.content)
    yield "stream", stream
    if chat:
        yield "conversation", lambda: said(ask(**about, messages=TALK).choices[0].message.content)
        yield "tools", lambda: ask(**about, messages=ASKED, tools=[TOOL]).choices[0].message.tool_calls[0]


def agents(url: str, chat: bool) -> Iterator[Check]:
    """openai-agents; what it asks with by default is the Responses API."""
    from agents import (
        Agent,
        OpenAIChatCompletionsModel,
        OpenAIResponsesModel,
        Runner,
        function_tool,
        set_tracing_disabled,
    )
    from openai import AsyncOpenAI
    from pydantic import BaseModel

    set_tracing_disabled(True)

    class City(BaseModel):
        name: str

    @function_tool
    def weather(city: str) -> str:
        """The weather of a city."""
        return f"Rain in {city}."

    def run(kind: Any, **more: Any) -> Any:
        model = kind(model="stepwise", openai_client=AsyncOpenAI(base_url=url, api_key="none"))
        return Runner.run_sync(Agent(name="a", model=model, **more), QUESTION).final_output

    yield "agent", lambda: said(run(OpenAIResponsesModel))
    yield "agent, chat", lambda: said(run(OpenAIChatCompletionsModel))
    if chat:
        yield "instructions", lambda: said(run(OpenAIResponsesModel, instructions=SYSTEM))
        yield "tools", lambda: said(run(OpenAIResponsesModel, tools=[weather]))
        yield "tools, chat", lambda: said(run(OpenAIChatCompletionsModel, tools=[weather]))
        yield "output_type", lambda: run(OpenAIResponsesModel, output_type=City).name


def pydantic_ai(url: str, chat: bool) -> Iterator[Check]:
    from pydantic import BaseModel
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    class City(BaseModel):
        name: str

    def run(kind: Any = OpenAIChatModel, **more: Any) -> Any:
        model = kind("stepwise", provider=OpenAIProvider(base_url=url, api_key="none"))
        return Agent(model, **more).run_sync(QUESTION).output

    def weather(city: str) -> str:
        """The weather of a city."""
        return f"Rain in {city}."

    yield "agent", lambda: said(run())
    yield "agent, responses", lambda: said(run(OpenAIResponsesModel))
    if chat:
        yield "system prompt", lambda: said(run(system_prompt=SYSTEM))
        yield "tools", lambda: said(run(tools=[weather]))
        yield "output_type", lambda: run(output_type=City).name
        yield "output_type, responses", lambda: run(OpenAIResponsesModel, output_type=City).name


def llama_index(url: str, chat: bool) -> Iterator[Check]:
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.openai_like import OpenAILike

    model: Any = OpenAILike(model="stepwise", api_base=url, api_key="none", is_chat_model=True)
    talk = [ChatMessage(role=m["role"], content=m["content"]) for m in TALK]
    yield "complete", lambda: said(model.complete(QUESTION).text)
    yield "chat", lambda: said(model.chat(talk[-1:]).message.content)
    yield "stream", lambda: said("".join(part.delta or "" for part in model.stream_complete(QUESTION)))
    if chat:
        yield "conversation", lambda: said(model.chat(talk).message.content)


def inspect_ai(url: str, chat: bool) -> Iterator[Check]:
    os.environ |= {"STEPWISE_API_KEY": "none", "STEPWISE_BASE_URL": url}
    from inspect_ai.model import ChatMessageSystem, ChatMessageUser, get_model
    from inspect_ai.tool import ToolInfo, ToolParams
    from inspect_ai.util import JSONSchema

    def ask(said_before: Any, **more: Any) -> Any:
        return asyncio.run(
            get_model("openai-api/stepwise/stepwise", memoize=False).generate(said_before, **more)
        )

    yield "generate", lambda: said(ask(QUESTION).completion)
    if chat:
        talk = [ChatMessageSystem(content=SYSTEM), ChatMessageUser(content=QUESTION)]
        city = ToolParams(properties={"city": JSONSchema(type="string")}, required=["city"])
        tool = ToolInfo(name="weather", description="The weather.", parameters=city)
        yield "system message", lambda: said(ask(talk).completion)
        yield "tools", lambda: ask(talk, tools=[tool]).message.tool_calls[0].arguments["city"]


CLIENTS = {
    "openai": openai,
    "langchain-openai": langchain_openai,
    "litellm": litellm,
    "openai-agents": agents,
    "pydantic-ai-slim": pydantic_ai,
    "llama-index-llms-openai-like": llama_index,
    "inspect-ai": inspect_ai,
}
"""By distribution."""
