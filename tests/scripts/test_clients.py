"""The clients that are installed, in their defaults, against gateways over chat models and bare ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from scripts.checks.clients.__main__ import Result, python_results, table
from scripts.checks.clients.chat_model import app, filled
from scripts.checks.clients.python import CLIENTS
from stepwise import load_pair, load_router
from stepwise.models.model import Model
from stepwise.models.pair import Pair
from tests.stepwise.gateway.serving import CONFIDENCE, app_of, serving

MODULES = {"openai": "openai", "langchain-openai": "langchain_openai"}
"""Those that the tests' extra brings."""


@asynccontextmanager
async def chat_gateway() -> AsyncIterator[str]:
    async with TestServer(app()) as server:
        backend = {"name": "chat", "base_url": str(server.make_url("/v1")), "logprobs": True, "context": 8192}
        models = tuple(Model(name, parameters=1, backend=backend) for name in ("small", "large"))
        pair = Pair("chat", models, prompt="{question}", separator="\n\n")
        engine = await asyncio.to_thread(pair.engine)
        with serving(app_of(engine, CONFIDENCE)) as url:
            yield f"{url}/v1"
        await engine.close()


def tried(results: list[Result], client: str) -> list[str]:
    assert not [result for result in results if result.wrong], table(results)
    return [result.what for result in results if result.client == client]


@pytest.mark.slow
async def test_clients_converse_call_tools_and_parse() -> None:
    async with chat_gateway() as url:
        results = await asyncio.to_thread(lambda: list(python_results({"chat": url})))
    for client in MODULES:
        assert find_spec(MODULES[client]) and tried(results, client)
    assert {"conversation", "tools", "parse", "responses parse"} <= set(tried(results, "openai"))


@pytest.mark.slow
def test_clients_ask_nano() -> None:
    engine = load_pair("nano").engine()
    with serving(app_of(engine, load_router("nano-ppo", budget=0.4)), engine.run) as url:
        results = list(python_results({"bare": f"{url}/v1"}))
    assert {"sync", "async", "stream", "responses"} <= set(tried(results, "openai"))
    engine.run(engine.close())


def test_what_fails_stands_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(url: str, chat: bool) -> Any:
        yield "ask", lambda: "fine"
        yield "break", lambda: 1 / 0

    monkeypatch.setitem(CLIENTS, "openai", failing)
    monkeypatch.delitem(CLIENTS, "langchain-openai")
    results = [result for result in python_results({"bare": ""}) if result.client == "openai"]
    assert [result.wrong for result in results] == ["", "ZeroDivisionError: division by zero"]
    assert table(results).endswith("| ask, break **failed** |  |")


def test_the_simplest_value_of_a_schema() -> None:
    schema = {
        "properties": {"a": {"$ref": "#/$defs/A"}, "b": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
        "$defs": {"A": {"type": "string", "enum": ["u", "v"]}},
    }
    assert filled(schema) == {"a": "u", "b": 1}
