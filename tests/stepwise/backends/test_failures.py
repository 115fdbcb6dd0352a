"""What a server refuses, by class: what stays, what is about one request, what passes; and what is never
told."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from stepwise.backends.http.endpoint import Endpoint
from stepwise.backends.http.failures import refusal
from stepwise.backends.http.options import LOOK_S
from stepwise.engine.engine import Engine
from stepwise.errors import BackendError, ConfigError, ContextOverflow, RequestRefused
from stepwise.routers import Always, LargeFirst
from tests.stepwise.backends.chat_server import QUICK, Upstream, chat, upstream
from tests.stepwise.gateway import serving

SECRET = "sk-very-secret"
PROMPT = "a question that nobody else may read"
STAYS = [
    (401, {"code": "invalid_api_key"}, "does not accept the key; check api_key_env"),
    (403, {}, "does not accept the key; check api_key_env"),
    (404, {"code": "model_not_found"}, "(model_not_found): no such model or address; check served_name"),
    (402, {}, "the account's quota is used up"),
    (429, {"code": "insufficient_quota"}, "(insufficient_quota): the account's quota is used up"),
    (307, {}, "a redirect, which is not followed"),
    (501, {}, "answered 501."),
]
OF_THE_REQUEST = [
    (400, {"code": "content_filter"}, "(content_filter): it refuses this request"),
    (400, {"code": "context_length_exceeded"}, "maximum context length"),
    (400, {"code": "unsupported_parameter", "param": "max_tokens"}, "parameter 'max_tokens'"),
    (413, {}, "it refuses this request"),
    (422, {}, "it refuses this request"),
]
PASSES = [
    (500, {}, "answered 500."),
    (429, {"code": "rate_limit_exceeded"}, "(rate_limit_exceeded)"),
    (529, {}, "529"),
]


def refused(status: int, error: dict[str, Any]) -> web.Response:
    told = {"message": f"{PROMPT} {SECRET} http://user:password@proxy", **error}
    return web.json_response({"error": told}, status=status, headers={"Location": "http://elsewhere/"})


def whole(model: str, text: str = "The answer is 1.") -> dict[str, Any]:
    """An answer that says that it is over."""
    answer = chat(text, model=model)
    answer["choices"][0]["stop_reason"] = None
    return answer


@asynccontextmanager
async def both(answer: Any, failover: bool = True, **patience: Any) -> AsyncIterator[tuple[Upstream, Engine]]:
    """A small model that answers, and a large one behind ``answer``."""

    def by_model(body: dict[str, Any]) -> Any:
        return whole("small") if body["model"] == "small" else answer(body)

    async with upstream(by_model) as served:
        models = [served.model(name, patience={**QUICK, **patience}) for name in ("small", "large")]
        engine = await served.engine(*models)
        engine.failover = failover
        yield served, engine
        await engine.close()


def asked(served: Upstream, model: str) -> int:
    return sum(body["model"] == model for body in served.bodies)


@pytest.mark.parametrize(("status", "error", "sentence"), STAYS + OF_THE_REQUEST)
async def test_what_does_not_pass_is_asked_once_and_named(
    status: int, error: dict[str, Any], sentence: str
) -> None:
    async with both(lambda _: refused(status, error)) as (served, engine):
        trace = await engine.solve("q", Always("large"))
    assert trace.stop in ("error", "context") and sentence in str(trace.error)
    assert asked(served, "large") == 1 and not trace.steps


@pytest.mark.parametrize(("status", "error", "_"), OF_THE_REQUEST)
async def test_what_is_about_a_request_never_opens_a_breaker(
    status: int, error: dict[str, Any], _: str
) -> None:
    async with both(lambda _: refused(status, error), failures=1) as (served, engine):
        for _n in range(5):
            await engine.solve("q", Always("large"))
        served.answer = lambda _: whole("large", "The answer is 2.")
        assert (await engine.solve("q", Always("large"))).answer == "2"


async def test_an_open_breaker_says_what_it_was_opened_by() -> None:
    async with both(lambda _: refused(401, {}), failures=1) as (served, engine):
        await engine.solve("q", Always("large"))
        trace = await engine.solve("q", Always("large"))
    assert asked(served, "large") == 1
    error = str(trace.error)
    assert "is left alone for now; the last time: " in error and "check api_key_env" in error


@pytest.mark.parametrize(("status", "error", "sentence"), PASSES + STAYS[:1])
async def test_a_named_model_is_never_replaced_and_another_is_with_its_reason(
    status: int, error: dict[str, Any], sentence: str
) -> None:
    async with both(lambda _: refused(status, error)) as (_, engine):
        named = await engine.solve("q", Always("large"))
        routed = await engine.solve("q", LargeFirst(1))
        fine = await engine.solve("q", Always("small"))
    assert named.stop == "error" and not named.steps and not named.degraded and sentence in str(named.error)
    assert routed.stop == "answered" and {step.model for step in routed.steps} == {"small"}
    assert routed.degraded.startswith("large cannot be run (") and sentence in routed.degraded
    assert fine.degraded == ""


async def test_a_failure_that_passes_is_waited_for_as_long_as_no_other_model_is_up() -> None:
    began = time.monotonic()
    async with both(lambda _: refused(500, {}), deadline_s=30.0, handover_s=0.05) as (served, engine):
        assert (await engine.solve("q", LargeFirst(1))).degraded
        assert time.monotonic() - began < 10.0  # a deadline away from it, however slow the machine
        failing = iter([True] * 30)

        def down(body: dict[str, Any]) -> Any:
            return refused(500, {}) if next(failing, False) else whole(body["model"])

        served.answer = down
        trace = await engine.solve("q", LargeFirst(1))
    assert trace.stop == "answered" and trace.steps[0].model == "large" and trace.degraded == ""


async def test_the_gateway_says_at_the_top_what_was_degraded_and_nothing_of_the_server() -> None:
    async with both(lambda _: refused(401, {"type": SECRET})) as (_, engine):
        app = serving.app_of(engine, LargeFirst(1), keys=None)
        async with serving.client(app) as http:
            answer = await http.post("/v1/chat/completions", json=serving.chat("q"))
            named = await http.post("/v1/chat/completions", json=serving.chat("q", "stepwise:large"))
    assert answer.status_code == 200
    assert "check api_key_env" in answer.json()["stepwise"]["degraded"]
    assert named.status_code == 502 and "check api_key_env" in named.json()["error"]["message"]
    for text in (answer.text, named.text):
        assert SECRET not in text and PROMPT not in text and "password" not in text


@pytest.mark.parametrize(("status", "error", "sentence"), STAYS + OF_THE_REQUEST + PASSES)
def test_a_refusal_repeats_nothing_that_the_server_wrote(
    status: int, error: dict[str, Any], sentence: str
) -> None:
    body = {"error": {"message": f"{PROMPT} {SECRET}", "type": PROMPT, **error, "param": SECRET}}
    told = refusal("http://server/v1", status, json.dumps(body).encode(), ["temperature"])
    assert SECRET not in str(told) and PROMPT not in str(told)
    assert told.retryable is ((status, error, sentence) in PASSES)
    assert isinstance(told, RequestRefused) is (status in (400, 413, 422))


def test_words_of_a_request_do_not_make_a_failure_of_the_server() -> None:
    """A server may repeat a question in its refusal."""
    echo = b'{"error": {"message": "insufficient_quota unsupported_parameter maximum context length"}}'
    assert isinstance(refusal("s", 400, echo), ContextOverflow)
    assert refusal("s", 500, echo).retryable


@pytest.mark.parametrize(
    "url",
    [
        "http://user:secret@server/v1",
        "https://secret@server/v1",
        "http://server/v1?key=secret",
        "http://secret:0x/v1",
        "user:secret@server",
    ],
)
def test_an_address_holds_no_secret(url: str) -> None:
    with pytest.raises(ConfigError, match="base_url must") as caught:
        Endpoint(url)
    assert "secret@" not in str(caught.value) and "=secret" not in str(caught.value)


@asynccontextmanager
async def elsewhere() -> AsyncIterator[tuple[str, list[dict[str, str]]]]:
    """A server that sends everybody to another one, and the headers that the other one got."""
    got: list[dict[str, str]] = []

    async def there(request: web.Request) -> web.Response:
        got.append(dict(request.headers))
        return web.json_response({"data": []})

    other = web.Application()
    other.router.add_route("*", "/{rest:.*}", there)
    async with TestServer(other) as target:

        async def here(_: web.Request) -> web.Response:
            return web.Response(status=302, headers={"Location": str(target.make_url("/v1/models"))})

        app = web.Application()
        app.router.add_route("*", "/{rest:.*}", here)
        async with TestServer(app) as server:
            yield str(server.make_url("/v1")), got


async def test_a_redirect_never_carries_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", SECRET)
    async with elsewhere() as (url, got):
        endpoint = Endpoint(url, api_key_env="A_KEY", api_key_header="api-key")
        assert await asyncio.to_thread(endpoint.served_models, LOOK_S) is None
        with pytest.raises(BackendError, match="a redirect, which is not followed"):
            await endpoint.post("/chat/completions", {})
        with pytest.raises(BackendError, match="a redirect, which is not followed"):
            await endpoint.get("/models")
        await endpoint.close()
    assert got == []


async def test_the_key_goes_where_the_pair_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", f"{SECRET}\n")
    async with upstream(lambda _: chat("The answer is 1.")) as served:
        cases = ("", "Authorization", f"Bearer {SECRET}"), ("api-key", "api-key", SECRET)
        for header, name, value in cases:
            engine = await served.engine(served.model(api_key_env="A_KEY", api_key_header=header))
            await engine.solve("q", Always("m"))
            await engine.close()
            assert served.headers[-1][name] == value


async def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        got.append(str(request.url))
        return web.json_response(chat("The answer is 1."))

    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", answer)
    async with TestServer(app) as proxy:
        monkeypatch.setenv("http_proxy", f"http://user:password@127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "direct.invalid")
        endpoint = Endpoint("http://upstream.invalid/v1")
        assert (await endpoint.post("/chat/completions", {}))["model"] == "m"
        direct = Endpoint("http://direct.invalid/v1")
        with pytest.raises(BackendError, match="Cannot connect to host"):
            await direct.post("/chat/completions", {})
        await endpoint.close()
        await direct.close()
    assert len(got) == 1 and "upstream.invalid" in got[0]
    broken = Endpoint("http://upstream.invalid/v1")
    with pytest.raises(BackendError, match="through the proxy of the environment") as caught:
        await broken.post("/chat/completions", {})
    assert "password" not in str(caught.value) and caught.value.retryable
    await broken.close()


async def test_a_wrong_key_is_said_when_a_program_starts() -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=401)

    async def take(_: web.Request) -> web.Response:
        return web.Response(status=400)

    app = web.Application()
    app.router.add_get("/{kind}/models", refuse)
    app.router.add_post("/v1/chat/completions", refuse)
    app.router.add_post("/v2/chat/completions", take)
    async with TestServer(app) as server:
        wrong, unlisted = (Endpoint(str(server.make_url(path))) for path in ("/v1", "/v2"))
        with pytest.raises(ConfigError, match="does not accept the key; check api_key_env"):
            await asyncio.to_thread(wrong.served_models, 60.0)
        assert await asyncio.to_thread(unlisted.served_models, 60.0) is None
