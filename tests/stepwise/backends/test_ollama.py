"""Ollama: the contract as far as text goes, and what its answers hide, against its documented answers.

Of the contract, three do not apply: it does not tell what was cached, an answer comes whole, and of a call
that is cancelled even the prompt is an estimate.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings

from stepwise.backends.http.endpoint import Endpoint
from stepwise.backends.http.ollama import OllamaBackend, Options
from stepwise.backends.options import ModelSpec
from stepwise.engine.backend import Sampling, StreamingBackend
from stepwise.engine.cost import Tokens
from stepwise.engine.engine import Engine
from stepwise.engine.stop_rules import StepRule
from stepwise.errors import BackendError, ConfigError, ContextOverflow
from stepwise.routers import Always, Confidence, ThresholdRouter
from stepwise.types import Usage
from tests.stepwise.backends.contract import (  # noqa: F401
    Subject,
    test_a_prefix_beyond_the_context_is_refused,
    test_steps_are_the_uninterrupted_generation,
    test_what_is_charged_is_what_was_counted,
    test_why_a_generation_stops,
)
from tests.stepwise.backends.ollama_server import OllamaServer
from tests.stepwise.backends.test_reading import Fake, check, damaged

QUESTION = "How many?\n"
SOLUTION = "First 2.\nThen 3.\nThe answer is 5."


@pytest.fixture
def server() -> OllamaServer:
    return OllamaServer(QUESTION, SOLUTION)


@pytest.fixture
async def backend(server: OllamaServer) -> AsyncIterator[OllamaBackend]:
    async with server.running() as url:
        backend = OllamaBackend(Endpoint(url), "m:latest", context=400)
        yield backend
        await backend.close()


@pytest.fixture
async def subject(server: OllamaServer, backend: OllamaBackend) -> Subject:
    return Subject(
        backend, QUESTION, reference=SOLUTION, counters=lambda: (server.prompt_tokens, server.written_tokens)
    )


async def test_the_request_is_raw_and_asks_for_the_models_own_distribution(
    server: OllamaServer, backend: OllamaBackend
) -> None:
    await backend.generate(backend.encode(QUESTION), Sampling(5, temperature=0.7, top_p=0.9, seed=3))
    await backend.generate(backend.encode(QUESTION), Sampling(5))
    body, options = server.bodies[0], server.bodies[0]["options"]
    assert (body["prompt"], body["raw"], body["truncate"], body["shift"]) == (QUESTION, True, False, False)
    assert body["logprobs"] and body["top_logprobs"] == 20 and body["think"] is False
    assert (options["temperature"], options["top_p"], options["seed"], options["num_ctx"]) == (
        0.7,
        0.9,
        3,
        400,
    )
    assert (options["top_k"], options["min_p"], options["repeat_penalty"]) == (0, 0.0, 1.0)
    assert "seed" not in server.bodies[1]["options"]


async def test_the_model_is_asked_what_ended_a_step_only_where_it_cannot_be_known(
    server: OllamaServer, backend: OllamaBackend
) -> None:
    step = Sampling(100, stop=("\n",))
    server.solution = ["First", " 2", ".\n", "Then", " 3", ".", "\n", "5"]
    prefix = backend.encode(QUESTION)
    calls, texts = [], []
    for _ in range(3):
        done = await backend.generate(prefix, step)
        prefix += done.token_ids
        calls.append(len(server.bodies))
        texts.append((done.text, done.finish))
    assert texts == [("First 2.\n", "stop"), ("Then 3.\n", "stop"), ("5", "end")]
    assert calls == [1, 3, 5]
    assert (done.usage.completion, done.usage.discarded) == (2, 1)
    assert done.usage.prompt == len(prefix) - 1 + len(prefix)


async def test_a_blank_beginning_ends_nothing(server: OllamaServer, backend: OllamaBackend) -> None:
    server.solution = ["\n", "First", "\n", "5"]
    both = {"small": backend, "large": backend}
    engine = Engine(both, prompt="{question}", rule=StepRule(separator="\n"), cost=Tokens())
    trace = await engine.solve(QUESTION, ThresholdRouter(Confidence(), 99.0, "draft"))
    assert trace.text == "\nFirst\n5" and trace.stop == "answered"


async def test_one_model_alone_writes_its_answer_in_one_call(
    server: OllamaServer, backend: OllamaBackend
) -> None:
    engine = Engine({"m": backend}, prompt="{question}", rule=StepRule(separator="\n"), cost=Tokens())
    trace = await engine.solve(QUESTION, Always("m"))
    assert len(server.bodies) == 1 and len(trace.steps) == 3 and trace.text == SOLUTION
    assert trace.usage["m"] == Usage(prompt=len(QUESTION), completion=len(SOLUTION) + 1)


async def test_without_its_counts_tokens_are_estimated(server: OllamaServer, backend: OllamaBackend) -> None:
    server.counts = False
    done = await backend.generate(backend.encode(QUESTION), Sampling(100))
    assert done.usage == Usage(prompt=3, completion=9, estimated=12)


async def test_a_call_that_is_cancelled_is_estimated(server: OllamaServer, backend: OllamaBackend) -> None:
    server.blocks = True
    lost: list[Usage] = []
    call = asyncio.create_task(backend.generate(backend.encode(QUESTION), Sampling(100), lost.append))
    while not server.bodies:
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert [usage.prompt for usage in lost] == [3] and lost[0].estimated >= 3
    await asyncio.wait_for(server.left.wait(), 10)


async def test_a_prompt_that_the_server_finds_too_long_is_an_overflow(backend: OllamaBackend) -> None:
    with pytest.raises(ContextOverflow, match="context"):
        await backend.generate(backend.encode(QUESTION * 41), Sampling(5))


async def test_a_name_stands_for_its_latest_version_and_another_is_refused(server: OllamaServer) -> None:
    spec = ModelSpec("small", "", None, "")
    async with server.running() as url:
        with pytest.raises(ConfigError, match="served_name must be one of m:latest"):
            await asyncio.to_thread(Options(base_url=url, served_name="m:7b").open, spec)
        backend = await asyncio.to_thread(Options(base_url=url, served_name="m").open, spec)
        completion = await backend.generate(backend.encode(QUESTION), Sampling(100))
        assert completion.text == SOLUTION
        await backend.close()


def test_it_cannot_be_read_along(backend: OllamaBackend) -> None:
    assert not isinstance(backend, StreamingBackend)


def whole(text: str = "ab", reason: str = "stop", **changes: Any) -> dict[str, Any]:
    rows = [{"logprob": -0.1, "top_logprobs": [{"logprob": -0.1}, {"logprob": -3.0}]}] * len(text)
    return {
        "model": "m:latest", "response": text, "done": True, "done_reason": reason,
        "prompt_eval_count": 2, "eval_count": len(text) + 1, "logprobs": rows, **changes,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (whole(reason="load"), "neither stop nor length"),
        (whole(eval_count=17), "counts more tokens than the 400 and 16"),
        (whole(model="other"), "answered as 'other'"),
        (whole(text="", reason="length"), "wrote nothing that has a text"),
    ],
)
def test_what_is_no_answer_is_an_error_and_is_charged(answer: dict[str, Any], sentence: str) -> None:
    lost: list[Usage] = []
    backend = OllamaBackend(Fake(answer), "m:latest", context=400)
    with pytest.raises(BackendError, match=sentence):
        asyncio.run(backend.generate(backend.encode("ab"), Sampling(16), lost.append))
    assert len(lost) == 1 and lost[0].prompt


def test_a_token_without_end_is_cut_off() -> None:
    backend = OllamaBackend(Fake({"model": "m:latest", "response": "aaaa", "done": False}), "m:latest")
    done = asyncio.run(backend.generate(backend.encode("ab"), Sampling(16)))
    assert (done.text, done.finish) == ("aaaa", "length") and done.usage.estimated


@given(damaged(whole()))
@settings(deadline=None, max_examples=300)
def test_any_json_at_any_place_of_an_answer(answer: Any) -> None:
    check(OllamaBackend(Fake(answer), "m:latest"))
