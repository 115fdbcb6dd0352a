"""llama-server: the contract, and what its protocol hides, against its documented exchanges."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwise.backends.http.endpoint import Endpoint
from stepwise.backends.http.llama import LlamaBackend, Options, slot_context
from stepwise.backends.http.resilient import Patience, resilient
from stepwise.backends.options import ModelSpec
from stepwise.engine.backend import Sampling
from stepwise.errors import BackendError, ConfigError, ContextOverflow
from stepwise.types import Usage
from tests.characters import VOCABULARY, save_tokenizer
from tests.stepwise.backends.contract import *  # noqa: F403
from tests.stepwise.backends.contract import Subject
from tests.stepwise.backends.llama_server import LlamaServer, probabilities
from tests.stepwise.backends.test_reading import URL, Fake, check, damaged

QUESTION = "How many?\n"
SOLUTION = "First 2.\nThen 3.\nThe answer is 5."
Open = Callable[[str], LlamaBackend]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Open:
    folder: Path = save_tokenizer(tmp_path_factory.mktemp("characters"))
    return lambda url: LlamaBackend(Endpoint(url), tokenizer=str(folder), context=400)


@pytest.fixture
def server() -> LlamaServer:
    return LlamaServer(QUESTION, SOLUTION)


@pytest.fixture
async def backend(server: LlamaServer, opened: Open) -> AsyncIterator[LlamaBackend]:
    async with server.running() as url:
        backend = opened(url)
        yield backend
        await backend.close()


@pytest.fixture
async def subject(server: LlamaServer, backend: LlamaBackend) -> Subject:
    def cut() -> None:
        server.breaks_after = 4

    return Subject(
        resilient(backend, "m", patience=Patience(first_wait_s=0.001)), QUESTION, reference=SOLUTION, cut=cut,
        counters=lambda: (server.prompt_tokens, server.written_tokens),
    )  # fmt: skip


async def test_the_request_asks_for_the_models_own_distribution(
    server: LlamaServer, backend: LlamaBackend
) -> None:
    await backend.generate(backend.encode(QUESTION), Sampling(5, temperature=0.7, top_p=0.9, seed=2**32))
    body = server.bodies[0]
    assert body["prompt"] == list(backend.encode(QUESTION)) and body["n_predict"] == 5
    assert (body["temperature"], body["top_p"], body["top_k"], body["min_p"]) == (0.7, 0.9, 0, 0.0)
    assert body["repeat_penalty"] == 1.0 and body["samplers"] == ["temperature", "top_p"]
    assert body["return_tokens"] and body["cache_prompt"] and body["n_probs"] == 20
    assert 0 <= body["seed"] < 2**32 - 1  # the largest seed would mean a random one


async def test_cached_tokens_are_those_that_were_not_computed(
    server: LlamaServer, backend: LlamaBackend
) -> None:
    first = await backend.generate(backend.encode(QUESTION), Sampling(5))
    second = await backend.generate(backend.encode(QUESTION) + first.token_ids, Sampling(5))
    assert first.usage == Usage(prompt=10, cached=0, completion=5)
    assert second.usage == Usage(prompt=15, cached=14, completion=5)
    assert server.computed_tokens == 10 + 1


async def test_tokens_that_end_inside_a_character_have_ids_and_no_probability(opened: Open) -> None:
    server = LlamaServer(QUESTION, "a bb c\nd", halves="b")
    async with server.running() as url:
        backend = opened(url)
        step = await backend.generate(backend.encode(QUESTION), Sampling(20, stop=("\n",)))
        cut = await backend.generate(backend.encode(QUESTION), Sampling(3))
        await backend.close()
    assert step.text == "a bb c\n" and step.token_ids == backend.encode("a bb c\n")
    assert step.signals.missing and step.usage.completion == 7
    assert cut.text == "a " and cut.finish == "length"  # the third token is half a character
    assert cut.usage == Usage(prompt=10, cached=9, completion=2, discarded=1)


@pytest.mark.parametrize("twice", [False, True])
async def test_an_event_that_is_lost_or_comes_twice_is_noticed(opened: Open, twice: bool) -> None:
    server = LlamaServer(QUESTION, SOLUTION, damages=3, twice=twice)
    async with server.running() as url:
        backend = opened(url)
        with pytest.raises(BackendError, match="tokens"):
            await backend.generate(backend.encode(QUESTION), Sampling(100))
        await backend.close()


async def test_a_connection_that_breaks_is_charged_and_goes_on(server: LlamaServer, opened: Open) -> None:
    server.breaks_after = 4
    lost: list[Usage] = []
    async with server.running() as url:
        backend = resilient(opened(url), "m", patience=Patience(first_wait_s=0.001))
        completion = await backend.generate(backend.encode(QUESTION), Sampling(100), lost.append)
        await backend.close()
    assert completion.text == SOLUTION
    assert sum(u.completion for u in lost) + completion.usage.completion == server.written_tokens
    assert sum(u.prompt for u in lost) + completion.usage.prompt == server.prompt_tokens


async def test_a_call_that_is_cancelled_is_charged_for_what_arrived(
    server: LlamaServer, backend: LlamaBackend
) -> None:
    server.blocks_after = 6
    lost: list[Usage] = []
    generation = backend.begin(backend.encode(QUESTION), Sampling(100))
    for _ in range(6):
        await generation.read()
    await generation.stop()
    assert generation.prompt == Usage(prompt=10) and generation.unread == 0
    await asyncio.wait_for(server.left.wait(), 10)
    call = asyncio.create_task(backend.generate(backend.encode(QUESTION), Sampling(100), lost.append))
    server.left.clear()
    while server.written_tokens < 12:
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert len(lost) == 1 and lost[0].prompt == 10 and lost[0].completion <= 6
    await asyncio.wait_for(server.left.wait(), 10)


async def test_a_prompt_beyond_the_slot_is_an_overflow(opened: Open) -> None:
    async with LlamaServer(QUESTION, SOLUTION, context=5).running() as url:
        backend = opened(url)
        with pytest.raises(ContextOverflow):
            await backend.generate(backend.encode(QUESTION), Sampling(5))
        await backend.close()


async def test_the_context_is_that_of_a_slot(server: LlamaServer) -> None:
    async with server.running() as url:
        assert await asyncio.to_thread(slot_context, Endpoint(url)) == 400
        assert await asyncio.to_thread(slot_context, Endpoint(f"{url}/elsewhere")) is None


async def test_another_name_is_refused(server: LlamaServer, tmp_path: Path) -> None:
    folder = str(save_tokenizer(tmp_path))
    async with server.running() as url:
        spec = ModelSpec("small", folder, None, "")
        with pytest.raises(ConfigError, match="served_name must be one of m"):
            await asyncio.to_thread(Options(base_url=url, served_name="other").open, spec)
        backend = await asyncio.to_thread(Options(base_url=url, served_name="m").open, spec)
        completion = await backend.generate(backend.encode(QUESTION), Sampling(100))
        assert completion.text == SOLUTION and backend.context == 400
        await backend.close()


@pytest.mark.parametrize("behind", ["/v1", "/v1/", "/"])
async def test_the_address_of_openais_interface_is_taken_for_the_root(
    behind: str, server: LlamaServer, tmp_path: Path
) -> None:
    folder = str(save_tokenizer(tmp_path))
    async with server.running() as url:
        backend = await asyncio.to_thread(
            Options(base_url=f"{url}{behind}").open, ModelSpec("small", folder, None, "")
        )
        assert (await backend.generate(backend.encode(QUESTION), Sampling(100))).text == SOLUTION
        await backend.close()


def test_a_tokenizer_is_needed() -> None:
    with pytest.raises(ConfigError, match="llama-server needs a tokenizer"):
        Options(base_url="http://127.0.0.1:1").open(ModelSpec("small", "", None, ""))


async def test_a_closed_backend_says_so(backend: LlamaBackend) -> None:
    await backend.close()
    with pytest.raises(BackendError, match="closed"):
        await backend.generate(backend.encode(QUESTION), Sampling(5))


def event(token: int, count: int) -> dict[str, Any]:
    """Of the stream that answers "ab" with three tokens, of which the last is the end."""
    return {
        "content": "" if token == 0 else VOCABULARY[token], "tokens": [token], "stop": False,
        "tokens_predicted": count, "tokens_evaluated": 2, "timings": {"cache_n": 1, "prompt_n": 1},
        "completion_probabilities": [probabilities(token)],
    }  # fmt: skip


LAST = {
    "content": "", "tokens": [], "stop": True, "tokens_predicted": 3, "tokens_evaluated": 2, "model": "m",
    "stop_type": "eos", "timings": {"cache_n": 1, "prompt_n": 1},
}  # fmt: skip
STREAM = [event(3, 1), event(4, 2), event(0, 3), LAST]


@given(data=st.data(), which=st.integers(0, len(STREAM) - 1))
@settings(deadline=None, max_examples=300)
def test_any_json_at_any_place_of_a_stream_gives_a_completion_or_an_error(
    data: st.DataObject, which: int, opened: Open
) -> None:
    events = [*STREAM[:which], data.draw(damaged(STREAM[which])), *STREAM[which + 1 :]]
    backend = opened(URL)
    backend.endpoint = Fake(events=events)
    check(backend)


def test_the_undamaged_stream_is_read(opened: Open) -> None:
    backend = opened(URL)
    backend.endpoint = Fake(events=STREAM)
    completion = asyncio.run(backend.generate(backend.encode("ab"), Sampling(16)))
    assert completion.token_ids == (3, 4) and completion.finish == "end"
    assert completion.usage == Usage(prompt=2, cached=1, completion=3)
    assert completion.signals.min_logprob == -1.0 and completion.signals.length == 3
