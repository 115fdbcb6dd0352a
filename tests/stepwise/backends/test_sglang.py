"""SGLang: the contract, and its two kinds of streams, against its documented exchanges."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwise.backends.http.endpoint import Endpoint
from stepwise.backends.http.resilient import Patience, resilient
from stepwise.backends.http.sglang import Options, SglangBackend
from stepwise.backends.options import ModelSpec
from stepwise.engine.backend import Chunk, Sampling
from stepwise.errors import BackendError, ConfigError, ContextOverflow
from stepwise.types import Usage
from tests.characters import save_tokenizer
from tests.stepwise.backends.contract import *  # noqa: F403
from tests.stepwise.backends.contract import Subject
from tests.stepwise.backends.sglang_server import SglangServer, answer
from tests.stepwise.backends.test_reading import URL, Fake, check, damaged

QUESTION = "How many?\n"
SOLUTION = "First 2.\nThen 3.\nThe answer is 5."
Open = Callable[[str], SglangBackend]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Open:
    folder: Path = save_tokenizer(tmp_path_factory.mktemp("characters"))
    return lambda url: SglangBackend(Endpoint(url), tokenizer=str(folder), context=400)


@pytest.fixture(params=["cumulative", "incremental"])
def server(request: pytest.FixtureRequest) -> SglangServer:
    return SglangServer(QUESTION, SOLUTION, incremental=request.param == "incremental", interval=3)


@pytest.fixture
async def backend(server: SglangServer, opened: Open) -> AsyncIterator[SglangBackend]:
    async with server.running() as url:
        backend = opened(url)
        yield backend
        await backend.close()


@pytest.fixture
async def subject(server: SglangServer, backend: SglangBackend) -> Subject:
    return Subject(
        backend, QUESTION, reference=SOLUTION, counters=lambda: (server.prompt_tokens, server.written_tokens)
    )


async def test_the_request_asks_for_the_models_own_distribution(
    server: SglangServer, backend: SglangBackend
) -> None:
    await backend.generate(backend.encode(QUESTION), Sampling(5, temperature=0.7, top_p=0.9, seed=2**40 + 3))
    await backend.generate(backend.encode(QUESTION), Sampling(1000, stop=("\n",)))
    sampled, greedy = (body["sampling_params"] for body in server.bodies)
    assert server.bodies[0]["input_ids"] == list(backend.encode(QUESTION))
    assert server.bodies[0]["return_logprob"] and server.bodies[0]["top_logprobs_num"] == 20
    assert (sampled["temperature"], sampled["top_p"], sampled["sampling_seed"]) == (0.7, 0.9, 3)
    assert (sampled["top_k"], sampled["min_p"], sampled["repetition_penalty"]) == (-1, 0.0, 1.0)
    assert greedy["temperature"] == 0.0 and "sampling_seed" not in greedy and greedy["stop"] == ["\n"]
    assert greedy["max_new_tokens"] == backend.context - len(QUESTION)


async def test_cached_tokens_are_the_servers(backend: SglangBackend) -> None:
    first = await backend.generate(backend.encode(QUESTION), Sampling(5))
    second = await backend.generate(backend.encode(QUESTION) + first.token_ids, Sampling(5))
    assert first.usage == Usage(prompt=10, cached=0, completion=5)
    assert second.usage == Usage(prompt=15, cached=14, completion=5)


async def read(backend: SglangBackend) -> list[Chunk]:
    generation, chunks = backend.begin(backend.encode(QUESTION), Sampling(100)), list[Chunk]()
    try:
        while not chunks or chunks[-1].finish is None:
            chunks.append(await generation.read())
    finally:
        await generation.stop()
    return chunks


async def test_events_of_several_tokens_are_read_once(backend: SglangBackend) -> None:
    chunks = await read(backend)
    ids = [i for chunk in chunks for i in chunk.token_ids]
    assert tuple(ids) == (*backend.encode(SOLUTION), 0)
    assert len(chunks) == -(-len(ids) // 3) and max(len(chunk.token_ids) for chunk in chunks) == 3


@pytest.mark.parametrize("twice", [False, True])
async def test_an_event_that_is_lost_or_comes_twice_does_no_harm_or_is_noticed(
    server: SglangServer, backend: SglangBackend, twice: bool
) -> None:
    server.damages, server.twice = 3, twice
    if server.incremental:
        with pytest.raises(BackendError, match="shows other tokens than it counts"):
            await read(backend)
    else:
        ids = tuple(i for chunk in await read(backend) for i in chunk.token_ids)
        assert ids == (*backend.encode(SOLUTION), 0)


async def test_a_stream_that_is_stopped_is_counted_as_far_as_it_came(
    server: SglangServer, backend: SglangBackend
) -> None:
    await backend.generate(backend.encode(QUESTION), Sampling(1))
    server.blocks_after = 6
    generation = backend.begin(backend.encode(QUESTION), Sampling(100))
    chunks = [await generation.read() for _ in range(2)]
    await generation.stop()
    assert sum(len(chunk.token_ids) for chunk in chunks) == 6
    assert generation.prompt == Usage(prompt=10, cached=9) and generation.unread == 0
    await asyncio.wait_for(server.left.wait(), 10)


async def test_a_connection_that_breaks_is_charged_and_goes_on(server: SglangServer, opened: Open) -> None:
    server.breaks_after = 4
    lost: list[Usage] = []
    async with server.running() as url:
        backend = resilient(opened(url), "m", patience=Patience(first_wait_s=0.001))
        completion = await backend.generate(backend.encode(QUESTION), Sampling(100), lost.append)
        await backend.close()
    assert completion.text == SOLUTION and len(lost) == 1
    assert lost[0].prompt == 10 and lost[0].estimated == lost[0].prompt + lost[0].completion


async def test_a_prompt_beyond_the_servers_context_is_an_overflow(opened: Open) -> None:
    async with SglangServer(QUESTION, SOLUTION, context=5).running() as url:
        backend = opened(url)
        with pytest.raises(ContextOverflow):
            await backend.generate(backend.encode(QUESTION), Sampling(5))
        await backend.close()


async def test_the_server_says_its_context_and_its_name(tmp_path: Path) -> None:
    spec = ModelSpec("small", str(save_tokenizer(tmp_path)), None, "")
    async with SglangServer(QUESTION, SOLUTION).running() as url:
        with pytest.raises(ConfigError, match="served_name must be one of m"):
            await asyncio.to_thread(Options(base_url=url, served_name="other").open, spec)
        for name in ("", "m"):
            backend = await asyncio.to_thread(Options(base_url=url, served_name=name).open, spec)
            completion = await backend.generate(backend.encode(QUESTION), Sampling(100))
            assert completion.text == SOLUTION and backend.context == 400
            await backend.close()


def test_a_tokenizer_is_needed() -> None:
    with pytest.raises(ConfigError, match="sglang needs a tokenizer"):
        Options(base_url="http://127.0.0.1:1").open(ModelSpec("small", "", None, ""))


ENDED = {"type": "stop", "matched": 0}
WHOLE = answer([3, 4, 0], 3, 2, 1, ENDED)
STREAM = [answer([3], 1, 2, 1, None), answer([3, 4], 2, 2, 1, None), WHOLE]


def test_an_undamaged_answer_is_read(opened: Open) -> None:
    backend = opened(URL)
    backend.endpoint = Fake(WHOLE)
    completion = asyncio.run(backend.generate(backend.encode("ab"), Sampling(16)))
    assert completion.token_ids == (3, 4) and completion.finish == "end"
    assert completion.usage == Usage(prompt=2, cached=1, completion=3)
    assert completion.signals.min_logprob == -1.0 and completion.signals.length == 3


@pytest.mark.parametrize(
    ("ended", "sentence"),
    [
        ({"type": "abort", "message": "secret", "status_code": 503}, "broke the generation off"),
        ({"type": "stop", "matched": "NaN happened"}, "neither stop nor length"),
        ({"type": "else"}, "neither stop nor length"),
        (None, "has no end"),
    ],
)
def test_what_is_no_end_of_an_answer_is_an_error_and_is_estimated(
    opened: Open, ended: dict[str, Any] | None, sentence: str
) -> None:
    backend, lost = opened(URL), list[Usage]()
    backend.endpoint = Fake(answer([3, 4], 2, 2, 1, ended))
    with pytest.raises(BackendError, match=sentence) as caught:
        asyncio.run(backend.generate(backend.encode("ab"), Sampling(16), lost.append))
    assert caught.value.retryable and "secret" not in str(caught.value)
    assert len(lost) == 1 and lost[0].prompt == 2


@given(data=st.data())
@settings(deadline=None, max_examples=300)
def test_any_json_at_any_place_of_an_answer(data: st.DataObject, opened: Open) -> None:
    backend = opened(URL)
    backend.endpoint = Fake(data.draw(damaged(WHOLE)))
    check(backend)


@given(data=st.data(), which=st.integers(0, len(STREAM) - 1))
@settings(deadline=None, max_examples=300)
def test_any_json_at_any_place_of_a_stream(data: st.DataObject, which: int, opened: Open) -> None:
    backend = opened(URL)
    backend.endpoint = Fake(events=[*STREAM[:which], data.draw(damaged(STREAM[which])), *STREAM[which + 1 :]])

    async def tokens() -> None:
        generation, finish = backend.begin(backend.encode("ab"), Sampling(16)), None
        with suppress(BackendError):
            while finish is None:
                chunk = await generation.read()
                assert len(chunk.token_ids) == len(chunk.logprobs) == len(chunk.top)
                finish = chunk.finish
        await generation.stop()
        assert 0 <= generation.prompt.cached <= generation.prompt.prompt

    asyncio.run(tokens())
