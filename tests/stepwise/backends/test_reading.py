"""Any bytes at any place of a server's answer: a completion or a `BackendError`, and accounts that can be
true."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwise.backends.http.chat import ChatBackend, Options
from stepwise.backends.http.completions import CompletionsBackend
from stepwise.backends.http.endpoint import Endpoint
from stepwise.backends.http.failures import refusal
from stepwise.backends.http.reading import EventReader, document, served
from stepwise.engine.backend import Backend, Completion, Sampling
from stepwise.errors import BackendError
from stepwise.types import Usage
from tests.characters import save_tokenizer

LIMIT = 16
URL = "http://server/v1"

numbers = st.integers() | st.floats() | st.sampled_from([0, -1, 10**400, 1e308, 3, True, -math.inf])
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=8) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)

CHAT = {
    "model": "m",
    "choices": [
        {
            "message": {"role": "assistant", "content": "ab"},
            "finish_reason": "stop",
            "stop_reason": None,
            "logprobs": {
                "content": [{"logprob": -0.1, "top_logprobs": [{"logprob": -0.1}, {"logprob": -3.0}]}] * 2
            },
        }
    ],
    "usage": {"prompt_tokens": 2, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}},
}
COMPLETION = {
    "model": "m",
    "choices": [
        {
            "token_ids": [1, 2],
            "finish_reason": "stop",
            "stop_reason": "\n",
            "logprobs": {"token_logprobs": [-0.1] * 2, "top_logprobs": [{"a": -0.1, "b": -3.0}] * 2},
        }
    ],
    "usage": {"prompt_tokens": 2, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}},
}


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, part in inner for place in places(part, (*at, key)))]


def changed(value: Any, place: tuple[Any, ...], new: Any, *, gone: bool) -> Any:
    """A document with another value at a place, or none."""
    if not place:
        return new
    copy = deepcopy(value)
    inner = copy
    for key in place[:-1]:
        inner = inner[key]
    if gone:
        del inner[place[-1]]
    else:
        inner[place[-1]] = new
    return copy


@st.composite
def damaged(draw: st.DrawFn, whole: dict[str, Any]) -> Any:
    place = draw(st.sampled_from(places(whole)))
    return changed(whole, place, draw(values), gone=bool(place) and draw(st.booleans()))


class Fake(Endpoint):
    """A server that answers one thing."""

    def __init__(self, answer: Any = None, events: list[Any] | None = None) -> None:
        super().__init__(URL)
        self._answer, self._events = answer, events or []

    async def post(self, path: str, body: Any) -> Any:
        return document(json.dumps(self._answer).encode(), URL)

    async def stream(self, path: str, body: Any) -> AsyncIterator[Any]:
        for event in self._events:
            yield document(json.dumps(event).encode(), URL)


@pytest.fixture(scope="module")
def completions(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Endpoint], CompletionsBackend]:
    folder: Path = save_tokenizer(tmp_path_factory.mktemp("characters"))
    return lambda endpoint: CompletionsBackend(endpoint, "m", tokenizer=str(folder), context=100)


def check(backend: Backend) -> None:
    """One call: a completion whose account can be true, or a `BackendError` whose account can be true."""
    lost: list[Usage] = []

    async def call() -> Completion | None:
        try:
            return await backend.generate(backend.encode("ab"), Sampling(LIMIT, stop=("\n",)), lost.append)
        except BackendError:
            return None

    done = asyncio.run(call())
    if done is not None:
        done.text.encode()
        assert done.signals.known or done.signals.missing or not done.signals.length
        assert done.signals.min_logprob <= done.signals.mean_logprob <= 0.0
    for usage in [done.usage] if done else lost:
        assert 0 <= usage.cached <= usage.prompt and 0 <= usage.completion + usage.discarded <= LIMIT
        assert all(isinstance(count, int) for count in (usage.prompt, usage.completion, usage.estimated))


@given(damaged(CHAT), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=300)
def test_any_json_at_any_place_of_a_chat_answer(answer: Any, logprobs: bool, continues: bool) -> None:
    options = Options(base_url=URL, logprobs=logprobs, continues=continues)
    check(ChatBackend(Fake(answer), "m", options=options))


@given(answer=damaged(COMPLETION))
@settings(deadline=None, max_examples=300)
def test_any_json_at_any_place_of_a_completion(
    answer: Any, completions: Callable[[Endpoint], CompletionsBackend]
) -> None:
    check(completions(Fake(answer)))


@given(values)
@settings(deadline=None)
def test_any_json_as_a_whole_answer_or_a_list_of_models(answer: Any) -> None:
    check(ChatBackend(Fake(answer), "m"))
    with suppress(BackendError):
        assert all(limit is None or limit > 1 for limit in served(answer, URL).values())


def event(*ids: int, finish: str | None = None) -> dict[str, Any]:
    logprobs = {"token_logprobs": [-0.1] * len(ids), "top_logprobs": [{"a": -0.1, "b": -3.0}] * len(ids)}
    choice = {"token_ids": list(ids), "logprobs": logprobs, "finish_reason": finish, "stop_reason": "\n"}
    return {"model": "m", "choices": [choice]}


STREAM = [
    event(1), event(2, 3), event(4, finish="stop"),
    {"model": "m", "choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 4}},
]  # fmt: skip


def read(backend: CompletionsBackend) -> list[int] | None:
    """The tokens of a stream; None where it failed."""

    async def tokens() -> list[int] | None:
        ids: list[int] = []
        generation = backend.begin(backend.encode("ab"), Sampling(LIMIT))
        try:
            while True:
                chunk = await generation.read()
                assert len(chunk.token_ids) == len(chunk.logprobs) == len(chunk.top)
                ids += chunk.token_ids
                if chunk.finish is not None:
                    return ids
        except BackendError:
            return None
        finally:
            await generation.stop()
            prompt = generation.prompt
            assert 0 <= prompt.cached <= prompt.prompt

    return asyncio.run(tokens())


@given(data=st.data(), which=st.integers(0, len(STREAM) - 1))
@settings(deadline=None, max_examples=200)
def test_any_json_at_any_place_of_a_stream(
    data: st.DataObject, which: int, completions: Callable[[Endpoint], CompletionsBackend]
) -> None:
    events = [*STREAM[:which], data.draw(damaged(STREAM[which])), *STREAM[which + 1 :]]
    read(completions(Fake(events=events)))


@given(which=st.integers(0, 2), twice=st.booleans())
@settings(deadline=None)
def test_an_event_that_is_lost_or_comes_twice_is_noticed(
    which: int, twice: bool, completions: Callable[[Endpoint], CompletionsBackend]
) -> None:
    events = [*STREAM[:which], *([STREAM[which]] * 2 if twice else []), *STREAM[which + 1 :]]
    whole = read(completions(Fake(events=STREAM)))
    ended_before = which == 2 and twice  # what comes after the end is not read
    assert whole == [1, 2, 3, 4]
    assert read(completions(Fake(events=events))) == (whole if ended_before else None)


def test_a_stream_that_does_not_end_is_left(
    completions: Callable[[Endpoint], CompletionsBackend],
) -> None:
    assert read(completions(Fake(events=[event(1)] * 100))) is None


lines = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=12)


@given(
    st.lists(st.lists(lines, min_size=1, max_size=3), max_size=5),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_events_are_the_same_wherever_the_bytes_are_cut(
    events: list[list[str]], end: str, marked: bool, rng: Any
) -> None:
    text = "\ufeff" * marked
    for data in events:
        text += f": a comment{end}event: message{end}id{end}"
        text += "".join(
            f"data:{' ' * rng.randint(0, 1) if not part.startswith(' ') else ' '}{part}{end}" for part in data
        )
        text += end
    raw, reader, got, at = text.encode(), EventReader(URL), [], 0
    while at < len(raw):
        size = rng.choice([0, 1, 1, 2, 7, len(raw)])
        got += list(reader.feed(raw[at : at + size]))
        at += size
    got += list(reader.end())
    assert got == ["\n".join(data).encode() for data in events]


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_any_bytes_are_events_or_none(chunks: list[bytes]) -> None:
    reader = EventReader(URL)
    got = [data for chunk in chunks for data in reader.feed(chunk)]
    whole = EventReader(URL)
    assert got == list(whole.feed(b"".join(chunks)))
    for data in got:
        with suppress(BackendError):
            document(data, URL)


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 100_000, b'{"a": NaN}', b"<html>"]
)
def test_strange_documents_are_read_or_refused(raw: bytes) -> None:
    try:
        document(raw, URL)
    except BackendError as error:
        assert str(error) == f"{URL} answered something that is no JSON." and error.retryable


@given(st.integers(300, 599), st.binary(max_size=40) | values.map(lambda value: json.dumps(value).encode()))
def test_any_refusal_is_an_error_in_our_words(status: int, raw: bytes) -> None:
    sentence = str(refusal(URL, status, raw, ["temperature"], {"Retry-After": "nan"}))
    assert sentence.startswith(f"{URL} answered {status}")
    text = raw.decode(errors="replace")
    assert len(text) < 8 or text not in sentence
