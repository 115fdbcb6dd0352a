"""Over a real socket: clients that go away, and clients of the libraries that people use."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from stepwise import load_dataset, load_pair, load_router
from stepwise.engine.engine import Engine
from stepwise.gateway import create_app
from stepwise.types import Trace
from tests.stepwise.gateway.serving import app_of, chat, serving
from tests.worlds import engine

PROBLEM = load_dataset("nano", limit=1)[0]


class Held:
    """The adders; the large one holds every call from its second on, and says when it is let go."""

    def __init__(self) -> None:
        self.world: Any = engine()
        self.held, self.cancelled = threading.Event(), threading.Event()
        self.calls = 0
        large: Any = self.world.backends["large"]
        large._before = self._hold

    async def _hold(self, _: str) -> None:
        self.calls += 1
        if self.calls < 2:
            return
        self.held.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@pytest.mark.parametrize("streaming", [True, False])
def test_a_client_that_goes_away_stops_the_generation(streaming: bool) -> None:
    held = Held()
    with serving(app_of(held.world)) as url:
        with httpx.Client(base_url=url, timeout=httpx.Timeout(20, read=20 if streaming else 0.3)) as http:
            body = chat("1 7 2", "stepwise:large", stream=streaming)
            if streaming:
                with http.stream("POST", "/v1/chat/completions", json=body) as answer:
                    assert '"content":"0 +' in next(answer.iter_lines())
            else:
                with pytest.raises(httpx.ReadTimeout):
                    http.post("/v1/chat/completions", json=body)
            assert held.held.wait(10)
        assert held.cancelled.wait(10), "the backend still generates for nobody"
        metrics = _settled(url)
        assert 'stepwise_chains_total{outcome="cancelled",router="large"} 1.0' in metrics
        assert "stepwise_running_chains 0.0" in metrics
        assert 'stepwise_steps_total{model="large"} 1.0' in metrics, "what was done is on the account"


def test_a_client_that_goes_away_with_half_its_body_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    with serving(app_of()) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as raw:
            raw.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        until = time.monotonic() + 10
        while 'status="499"' not in (text := httpx.get(f"{url}/metrics").text):
            assert time.monotonic() < until
        assert 'stepwise_requests_total{endpoint="other",status="499"} 1.0' in text
    assert "Traceback" not in caplog.text


def _settled(url: str) -> str:
    """The metrics once no chain runs."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        text = httpx.get(f"{url}/metrics").text
        if "stepwise_running_chains 0.0" in text and "stepwise_chains_total{" in text:
            return text
    raise AssertionError("a chain still runs")


@pytest.fixture(scope="module")
def nano() -> Iterator[Engine]:
    world = load_pair("nano").engine()
    yield world
    world.run(world.close())


@pytest.fixture(scope="module")
def url(nano: Engine) -> Iterator[str]:
    app = create_app(nano, {"nano-ppo": load_router("nano-ppo", budget=0.4)})
    with serving(app) as url:
        yield f"{url}/v1"


@pytest.fixture(scope="module")
def trace(nano: Engine) -> Trace:
    return nano.solve_sync(PROBLEM.question, load_router("nano-ppo", budget=0.25))


ASK: Any = {"messages": [{"role": "user", "content": PROBLEM.question}], "model": "stepwise:budget=0.25"}


def test_the_openai_client(url: str, trace: Trace) -> None:
    with openai.OpenAI(base_url=url, api_key="none") as client:
        whole = client.chat.completions.create(**ASK)
        assert whole.choices[0].message.content == trace.text and whole.choices[0].finish_reason == "stop"
        extra = whole.choices[0].model_extra
        assert extra is not None and extra["stepwise"]["cost"] == trace.cost
        assert [step["model"] for step in extra["stepwise"]["steps"]] == [step.model for step in trace.steps]
        assert whole.usage is not None and whole.usage.completion_tokens == sum(
            usage.completion for usage in trace.usage.values()
        )
        budget = {"stepwise": {"budget": 0.25}}
        stream = client.chat.completions.create(
            **{**ASK, "model": "stepwise"},
            extra_body=budget,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = list(stream)
        assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == trace.text
        assert chunks[-1].usage == whole.usage
        text = client.completions.create(model="stepwise:budget=0.25", prompt=PROBLEM.question, max_tokens=10)
        assert trace.text.startswith(text.choices[0].text) and text.choices[0].finish_reason == "length"
        assert {"stepwise", "stepwise:small"} <= {model.id for model in client.models.list()}


def test_refusals_are_the_openai_client_s_exceptions(url: str) -> None:
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        with pytest.raises(openai.BadRequestError, match="the least that can is") as refused:
            client.chat.completions.create(**{**ASK, "model": "stepwise:budget=0.01"})
        assert isinstance(refused.value.body, dict) and 0.01 < refused.value.body["nearest"] < 0.2
        with pytest.raises(openai.NotFoundError, match="no model 'gpt-4o'"):
            client.chat.completions.create(**{**ASK, "model": "gpt-4o"})
        with pytest.raises(openai.BadRequestError, match="logprobs: is not supported"):
            client.chat.completions.create(**ASK, logprobs=True)


def test_what_the_openai_client_may_send_besides(url: str, trace: Trace) -> None:
    """Bookkeeping and neutral values, as applications set them for every server alike."""
    with openai.OpenAI(base_url=f"{url}/", api_key="none") as client:
        answer = client.chat.completions.with_raw_response.create(
            **ASK,
            store=True,
            metadata={"run": "7"},
            user="me",
            safety_identifier="me",
            prompt_cache_key="key",
            service_tier="flex",
            frequency_penalty=0.0,
            presence_penalty=0,
            logit_bias={},
            response_format={"type": "text"},
            tools=[],
            extra_body={"top_k": -1, "min_p": 0, "repetition_penalty": 1, "ignore_eos": False},
            extra_headers={"X-Client-Request-Id": "mine"},
        )
        assert answer.parse().choices[0].message.content == trace.text
        assert answer.headers["x-client-request-id"] == "mine"
        expected = "metadata, prompt_cache_key, safety_identifier, service_tier, store, user"
        assert answer.headers["x-stepwise-ignored"] == expected
        assert client.models.retrieve("stepwise:budget=0.25").id == "stepwise:budget=0.25"


async def test_the_asynchronous_openai_client(url: str, trace: Trace) -> None:
    async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:
        answers = await asyncio.gather(*(client.chat.completions.create(**ASK) for _ in range(8)))
        assert {answer.choices[0].message.content for answer in answers} == {trace.text}
        stream = await client.chat.completions.create(**ASK, stream=True)
        assert "".join([c.choices[0].delta.content or "" async for c in stream]) == trace.text


def test_a_failure_in_a_stream_is_the_openai_client_s_exception(caplog: pytest.LogCaptureFixture) -> None:
    world: Any = engine()
    held: list[int] = []

    async def fail(_: str) -> None:
        held.append(1)
        if len(held) > 1:
            raise RuntimeError("inside")

    world.backends["large"]._before = fail
    with serving(app_of(world)) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none") as client:
        stream = client.chat.completions.create(
            model="stepwise:large", messages=[{"role": "user", "content": "1 7 2"}], stream=True
        )
        assert next(iter(stream)).choices[0].delta.content == "0 +"
        with pytest.raises(openai.APIError, match="the gateway failed"):
            list(stream)
    assert "RuntimeError: inside" in caplog.text, "what happened is in the log"


async def test_langchain(url: str, trace: Trace) -> None:
    model = ChatOpenAI(
        base_url=url, api_key=SecretStr("none"), model="stepwise", extra_body={"stepwise": {"budget": 0.25}}
    )
    assert model.invoke(PROBLEM.question).content == trace.text
    chunks = list(model.stream(PROBLEM.question))
    assert "".join(str(chunk.content) for chunk in chunks) == trace.text
    assert (await model.ainvoke(PROBLEM.question)).content == trace.text
    answers = model.batch([PROBLEM.question] * 3)
    assert [answer.content for answer in answers] == [trace.text] * 3
