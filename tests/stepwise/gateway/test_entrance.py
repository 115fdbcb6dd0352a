"""What a request passes before the app: host, path, key, body."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from stepwise.gateway import Keys, Tenant, openai
from stepwise.gateway.admission import Limits
from stepwise.gateway.gateway import Gateway
from stepwise.gateway.keys import digest
from stepwise.gateway.schemas import CompletionRequest
from stepwise.gateway.spending import Spending
from stepwise.routers import Always
from tests.stepwise.gateway.serving import app_of, chat, client
from tests.worlds import engine

CHAT = "/v1/chat/completions"
KEYS = Keys([Tenant("alice", digest("alice's key, long enough"))])
ALICE = {"Authorization": "Bearer alice's key, long enough"}


@pytest.mark.parametrize("path", ["/v1/models", "/health", "/ready", "/metrics", "/"])
async def test_head_is_get_without_the_body(path: str) -> None:
    async with client(app_of()) as http:
        whole, head = await http.get(path), await http.head(path)
    assert whole.status_code == head.status_code == 200 and whole.content and not head.content
    assert head.headers["content-type"] == whole.headers["content-type"]


async def test_a_slash_behind_a_path_makes_no_difference() -> None:
    async with client(app_of()) as http:
        assert (await http.get("/v1/models/")).json() == (await http.get("/v1/models")).json()
        assert (await http.post(f"{CHAT}/", json=chat("1 7"))).status_code == 200


@pytest.mark.parametrize(
    "path, hint",
    [
        ("/chat/completions", "there is no /chat/completions here; use /v1/chat/completions."),
        ("/v1/v1/chat/completions", "use /v1/chat/completions."),
        ("/api/v1/completions", "use /v1/completions."),
        ("/responses", "use /v1/responses."),
        ("/v1/embeddings", "there are /v1/chat/completions, /v1/completions, /v1/responses, /v1/models"),
        ("/" + "x" * 5000, "xxx here; there are"),
        ("/%1b[31m", r"there is no '/\x1b[31m' here"),
    ],
)
async def test_a_wrong_path_is_told_the_right_one(path: str, hint: str) -> None:
    async with client(app_of()) as http:
        answer = await http.post(path, json=chat("1 7"))
    message = answer.json()["error"]["message"]
    assert answer.status_code == 404 and hint in message and len(message) < 300


async def test_a_wrong_method_is_told_the_right_one() -> None:
    async with client(app_of()) as http:
        answer = await http.get(CHAT)
    assert answer.json()["error"]["message"] == f"{CHAT} takes POST, not GET."


async def test_every_name_of_a_model_can_be_looked_up() -> None:
    async with client(app_of(aliases={"gpt-4o": "stepwise:small"})) as http:
        for listed in (await http.get("/v1/models")).json()["data"]:
            assert (await http.get(f"/v1/models/{listed['id']}")).json() == listed
        assert (await http.get("/v1/models/stepwise:threshold=0.3")).status_code == 200
        assert (await http.get("/v1/models/gpt-5")).json()["error"]["code"] == "model_not_found"
        answer = (await http.post(CHAT, json=chat("1 7", "gpt-4o"))).json()
    assert answer["model"] == "gpt-4o" and answer["choices"][0]["stepwise"]["router"] == "small"


async def test_ids_of_the_client_s_come_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "stepwise.gateway")
    own = {"X-Request-ID": "mine-1", "X-Client-Request-ID": "mine-2"}
    async with client(app_of()) as http:
        answer = await http.get("/health", headers=own)
        assert (answer.headers["x-request-id"], answer.headers["x-client-request-id"]) == ("mine-1", "mine-2")
        assert '"id": "mine-1"' in caplog.text
        for bad in ("x" * 129, "two words"):
            answer = await http.get("/health", headers={"X-Request-ID": bad})
            assert len(answer.headers["x-request-id"]) == 32


@pytest.mark.parametrize(
    "content, message",
    [
        (b"{", "body: is not valid JSON: Expecting property name enclosed in double quotes at character 1."),
        (b"[1]", "body: must be an object, not a list."),
        (b"", "body: is required."),
    ],
)
async def test_a_body_that_is_no_request_is_told_so_in_a_sentence(content: bytes, message: str) -> None:
    async with client(app_of()) as http:
        answer = await http.post(CHAT, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400 and answer.json()["error"]["message"] == message


async def test_nothing_of_a_body_is_read_without_a_key() -> None:
    read: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        read.append(1)
        yield b"{"

    async with client(app_of(keys=KEYS)) as http:
        for path in (
            CHAT,
            "/v1/completions",
            "/stepwise/estimate",
            "/v1/nothing",
            "/nothing",
            "/",
            "/health",
        ):
            assert (await http.post(path, content=body())).status_code == 401
        assert not read
        assert (await http.post(CHAT, content=body(), headers=ALICE)).status_code == 400 and read


async def test_pages_of_other_origins_may_ask_where_they_are_named() -> None:
    origin = {"Origin": "https://app.example"}
    asking = {
        **origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    async with client(app_of(keys=KEYS, origins=["https://app.example"])) as http:
        assert (await http.options(CHAT, headers=asking)).status_code == 200
        answer = await http.post(CHAT, json=chat("1 7"), headers={**origin, **ALICE})
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        stranger = await http.get("/health", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in stranger.headers
    async with client(app_of()) as http:
        assert "access-control-allow-origin" not in (await http.get("/health", headers=origin)).headers


@pytest.mark.parametrize(
    "host, status",
    [
        ("localhost:8700", 200),
        ("127.0.0.1", 200),
        ("[::1]:8700", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example:8700", 403),
        ("[", 403),
        ("", 403),
    ],
)
async def test_a_server_for_this_machine_alone_answers_to_its_own_names(host: str, status: int) -> None:
    async with client(app_of(hosts=("localhost", "127.0.0.1", "::1"))) as http:
        answer = await http.get("/v1/models", headers={"Host": host})
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["error"]["code"] == "wrong_host"


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://evil.example", 403),
        ("null", 403),
        ("http://[", 403),
        ("http://localhost.evil.example", 403),
        ("http://127.0.0.1:8700", 200),
        ("http://localhost:3000", 200),
        ("https://app.example", 200),
    ],
)
async def test_a_page_of_another_origin_has_a_server_without_keys_do_nothing(
    origin: str, status: int
) -> None:
    world = engine()
    app = app_of(world, hosts=("localhost", "127.0.0.1"), origins=["https://app.example"])
    async with client(app) as http:
        answer = await http.post(CHAT, json=chat("1"), headers={"Host": "localhost", "Origin": origin})
        assert (await http.get("/v1/models", headers={"Host": "localhost"})).status_code == 200
        done = (await http.get("/metrics", headers={"Host": "localhost"})).text
    assert answer.status_code == status and ("stepwise_steps_total{" in done) is (status == 200)
    if status == 403:
        assert answer.json()["error"]["code"] == "wrong_origin"


async def test_a_silent_stream_says_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "KEEP_ALIVE", 0.01)
    world: Any = engine()

    async def slowly(_: str) -> None:
        await asyncio.sleep(0.05)

    world.backends["small"]._before = slowly
    async with client(app_of(world)) as http:
        answer = await http.post(CHAT, json=chat("1 7", "stepwise:small", stream=True))
    first, *events = answer.text.split("\n\n")
    assert first == ": keep-alive" and events[-2:] == ["data: [DONE]", ""]


async def test_pauses_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "KEEP_ALIVE", 0.01)
    world: Any = engine()
    calls = itertools.count(1)

    async def slowly(_: str) -> None:
        await asyncio.sleep(0.05 if next(calls) == 2 else 0)

    world.backends["small"]._before = slowly
    async with client(app_of(world)) as http:
        whole = await http.post(CHAT, json=chat("1 7", "stepwise:small"))
        calls = itertools.count(1)
        streamed = await http.post(CHAT, json=chat("1 7", "stepwise:small", stream=True))
    *events, done, _ = streamed.text.split("\n\n")
    first = events.index(": keep-alive")
    assert first > 0 and done == "data: [DONE]", "the wait is between two steps"
    deltas = [json.loads(event[6:])["choices"][0]["delta"] for event in events if event.startswith("data: ")]
    text = "".join(delta.get("content", "") for delta in deltas)
    assert text == whole.json()["choices"][0]["message"]["content"]


async def test_what_is_there_is_streamed_within_one_turn_of_the_event_loop() -> None:
    """Where many chains share a batch, a turn is one in which all of them have theirs."""
    limits, accounts = Limits(), Spending()
    served = Gateway(
        engine(), {"small": Always("small")}, limits=limits, spending=accounts, conversation=False,
        log_prompts=False, aliases={},
    )  # fmt: skip
    job = served.submit(
        CompletionRequest(model="stepwise:small", prompt=["1 7"], stream=True), Tenant("alice", "")
    )
    await asyncio.wait({job._task})
    turns: list[int] = []
    asyncio.get_running_loop().call_soon(turns.append, 1)
    pieces = [piece async for piece in job.paced(60)]
    assert len(pieces) > 3 and not turns
