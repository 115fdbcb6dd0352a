"""The gateway over nano on vLLM: text as it is generated, and nothing left running for nobody."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from stepwise import load_dataset, load_pair, load_router
from stepwise.engine.engine import Engine
from stepwise.gateway import create_app
from tests.stepwise.gateway.serving import serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="vLLM's CPU build is for Linux"),
]
PROBLEMS = load_dataset("nano", limit=12)
MODEL = "stepwise:threshold=0.5"


@pytest.fixture(scope="module")
def world() -> Iterator[Engine]:
    engine = load_pair("nano").engine(backend="vllm")
    yield engine
    engine.run(engine.close())


@pytest.fixture(scope="module")
def url(world: Engine) -> Iterator[str]:
    router = load_router("nano-ppo", threshold=0.5)
    with serving(create_app(world, {"nano-ppo": router}), run=world.run) as url:
        yield url


async def follow(http: httpx.AsyncClient, question: str, model: str, leave_after: int = 10**6) -> list[Any]:
    """The choices of a stream's chunks, up to a number of them."""
    choices: list[Any] = []
    body = {"model": model, "prompt": question, "stream": True}
    async with http.stream("POST", "/v1/completions", json=body, timeout=120) as answer:
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                choices.append(json.loads(line[6:])["choices"][0])
            if len(choices) > leave_after:
                break
    return choices


async def test_concurrent_streams_are_what_the_engine_says(world: Engine, url: str) -> None:
    async with httpx.AsyncClient(base_url=url) as http:
        streams = await asyncio.gather(*(follow(http, problem.question, MODEL) for problem in PROBLEMS))
    router = load_router("nano-ppo", threshold=0.5)
    for problem, choices in zip(PROBLEMS, streams, strict=True):
        trace = world.solve_sync(problem.question, router)
        assert "".join(choice["text"] for choice in choices) == trace.text
        steps = [choice["stepwise"]["step"]["model"] for choice in choices if "step" in choice["stepwise"]]
        assert steps == [step.model for step in trace.steps]


async def test_a_decided_step_comes_in_pieces(url: str) -> None:
    async with httpx.AsyncClient(base_url=url) as http:
        choices = await follow(http, PROBLEMS[0].question, "stepwise:large")
    steps = [choice for choice in choices if "step" in choice["stepwise"]]
    assert len(choices) > 3 * len(steps)


async def test_nothing_runs_on_for_clients_that_left(world: Engine, url: str) -> None:
    chance = random.Random(0)
    async with httpx.AsyncClient(base_url=url) as http:
        leaving = (follow(http, p.question, MODEL, chance.randint(0, 8)) for p in (*PROBLEMS, *PROBLEMS))
        await asyncio.gather(*leaving)
    until = time.monotonic() + 10
    while waiting := _unfinished(world):
        assert time.monotonic() < until, f"{waiting} requests run for nobody"
        await asyncio.sleep(0.01)


def _unfinished(world: Engine) -> int:
    backends: list[Any] = list(world.backends.values())
    return sum(backend._engine.output_processor.get_num_unfinished_requests() for backend in backends)
