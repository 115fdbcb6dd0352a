"""vLLM's own OpenAI server over HTTP: token-identical, counted as it counts, chat both ways."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from stepwise import load_dataset, load_pair
from stepwise.backends.http.probe import examine
from stepwise.engine.backend import Sampling
from stepwise.engine.engine import Engine
from stepwise.engine.solution import Delta, Event
from stepwise.models.model import Model, options_of
from stepwise.models.pair import Pair
from stepwise.routers import Always, Confidence, FirstTokenEntropy, ThresholdRouter
from stepwise.types import Router, Usage
from tests.cut_connections import Proxy
from tests.stepwise.backends.contract import *  # noqa: F403
from tests.stepwise.backends.contract import Subject

NANO = {model.name: model for model in load_pair("nano").models}
PROBLEMS = load_dataset("nano", split="validation", limit=12)
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m['content'] }}"
    "{% if m['role'] == 'user' %}{{ '\\n' }}{% endif %}{% endfor %}"
)
"""A conversation as nano reads it: the question, a line break, the solution so far."""


@dataclass(frozen=True)
class Server:
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def counter(self, name: str) -> float:
        found = re.findall(rf"^vllm:{name}(?:{{[^}}]*}})? ([0-9.e+]+)$", self.get("/metrics"), re.MULTILINE)
        return sum(map(float, found))

    def model(self, **settings: object) -> Model:
        backend = {"name": "vllm-server", "base_url": self.url, "served_name": "nano", **settings}
        return Model("small", NANO["small"].path, backend=backend)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    (folder / "template.jinja").write_text(TEMPLATE)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        served = Server(int(probe.getsockname()[1]))
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", NANO["small"].path),
        *("--served-model-name", "nano", "--host", "127.0.0.1", "--port", str(served.port)),
        *("--max-model-len", "512", "--enforce-eager", "--dtype", "float32", "--block-size", "32"),
        *("--enable-prompt-tokens-details", "--chat-template", str(folder / "template.jinja")),
    ]
    log = (folder / "log.txt").open("w")
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    process = subprocess.Popen(command, env={**os.environ, **settings}, stdout=log, stderr=log)
    try:
        wait_until_ready(served, process, folder / "log.txt")
        yield served
    finally:
        process.terminate()
        process.wait(30)


def wait_until_ready(served: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        try:
            served.get("/health")
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"vLLM's server did not start:\n{log.read_text()[-3000:]}")


@pytest.fixture
async def engine(server: Server) -> AsyncIterator[Engine]:
    opened = Pair("served", (server.model(),), prompt="{question}\n").engine()
    yield opened
    await opened.close()


@pytest.fixture(scope="module")
def reference() -> dict[str, str]:
    """The same chains by `transformers`."""
    alone = load_pair("nano").engine(models=["small"])
    texts = {p.id: alone.solve_sync(p, Always("small")).text for p in PROBLEMS}
    alone.run(alone.close())
    return texts


@pytest.fixture
async def subject(server: Server, reference: dict[str, str]) -> AsyncIterator[Subject]:
    def counters() -> tuple[int, int]:
        prompt, written = map(server.counter, ("prompt_tokens_total", "generation_tokens_total"))
        return int(prompt), int(written)

    problem = PROBLEMS[0]
    async with Proxy(server.url).running() as proxy:
        model = server.model(base_url=proxy.url, patience={"first_wait_s": 0.01})
        backend = await asyncio.to_thread(model.open, options_of("transformers"), share=1)
        yield Subject(backend, problem.question + "\n", "\n", reference[problem.id], counters, proxy.cut)
        await backend.close()


@pytest.mark.parametrize("lookahead", [False, True])
async def test_chains_are_those_of_transformers(
    server: Server, reference: dict[str, str], lookahead: bool
) -> None:
    engine = Pair("served", (server.model(),), prompt="{question}\n").engine(lookahead=lookahead)
    texts = {t.problem.id: t.text async for t in engine.solve_many(PROBLEMS, Always("small"))}
    same = sum(texts[i] == reference[i] for i in texts)
    assert same >= len(PROBLEMS) - 1  # one numerical tie may fall the other way
    await engine.close()


async def test_steps_over_http_are_the_uninterrupted_generation(server: Server, engine: Engine) -> None:
    backend = server.model().open(options_of("transformers"), share=1)
    for problem in PROBLEMS[:4]:
        whole = await backend.generate(backend.encode(problem.question + "\n"), Sampling(400))
        trace = await engine.solve(problem, Always("small"))
        assert tuple(i for step in trace.steps for i in step.token_ids) == whole.token_ids
        assert trace.text == whole.text
    await backend.close()


@pytest.mark.parametrize(
    "router",
    [
        Always("small"),
        ThresholdRouter(FirstTokenEntropy(), 99.0, "probe"),
        ThresholdRouter(Confidence(), 99.0, "draft"),
    ],
    ids=lambda router: router.name,
)
async def test_a_run_is_charged_what_the_server_counted(
    server: Server, engine: Engine, router: Router
) -> None:
    names = ("prompt_tokens_total", "generation_tokens_total")
    before = [server.counter(name) for name in names]
    total = Usage()
    async for trace in engine.solve_many(PROBLEMS, router, concurrency=4):
        total += trace.usage["small"]
    after = [server.counter(name) for name in names]
    counted = [b - a for a, b in zip(before, after, strict=True)]
    assert [total.prompt, total.completion + total.discarded] == counted


async def test_listening_is_charged_what_the_server_counted(server: Server, engine: Engine) -> None:
    names = ("prompt_tokens_total", "generation_tokens_total", "prefix_cache_hits_total")
    before = [server.counter(name) for name in names]
    heard: list[Event] = []
    trace = await engine.solve(PROBLEMS[0], Always("small")).finish(heard.append)
    counted = [server.counter(name) - b for name, b in zip(names, before, strict=True)]
    used = trace.usage["small"]
    assert [used.prompt, used.completion] == counted[:2] and 0 < used.cached <= counted[2]
    deltas = [event.text for event in heard if isinstance(event, Delta)]
    assert "".join(deltas) == trace.text and len(deltas) > len(trace.steps)


async def test_cached_tokens_are_the_servers(server: Server) -> None:
    backend = server.model().open(options_of("transformers"), share=1)
    prefix = backend.encode("A question that no other test asks. " * 6)
    first = await backend.generate(prefix, Sampling(4))
    hits = server.counter("prefix_cache_hits_total")
    second = await backend.generate(prefix, Sampling(4))
    assert first.usage.cached == 0 < second.usage.cached
    assert second.usage.cached == server.counter("prefix_cache_hits_total") - hits
    await backend.close()


async def test_leaving_a_chain_stops_its_generation_on_the_server(server: Server) -> None:
    engine = Pair("served", (server.model(),), prompt="{question}\n").engine(lookahead=True)
    async for _ in engine.solve(PROBLEMS[0], Always("small")):
        break
    await asyncio.wait_for(_idle(server), 30)
    await engine.close()


async def _idle(server: Server) -> None:
    while server.counter("num_requests_running"):
        await asyncio.sleep(0.05)


async def test_a_chat_server_that_continues_messages_writes_the_same_chain(
    server: Server, reference: dict[str, str]
) -> None:
    model = server.model(name="chat", continues=True, logprobs=True)
    engine = Pair("chat", (model,), prompt="{question}\n").engine()
    router = ThresholdRouter(Confidence(), 99.0, "draft")
    traces = [t async for t in engine.solve_many(PROBLEMS[:6], router, concurrency=6)]
    assert all(t.stop == "answered" and t.steps[0].signals.min_logprob < 0 for t in traces)
    assert sum(t.text == reference[t.problem.id] for t in traces) >= 5
    await engine.close()


async def test_a_chat_server_is_asked_for_the_next_step_where_it_cannot_continue(server: Server) -> None:
    """nano does not understand the request; what is tested is that a real server takes it and that every
    call is counted as the server counts it."""
    engine = Pair("chat", (server.model(name="chat"),), prompt="{question}\n", max_steps=3).engine()
    before = [server.counter(name) for name in ("prompt_tokens_total", "generation_tokens_total")]
    trace = await engine.solve(PROBLEMS[0], Always("small"))
    after = [server.counter(name) for name in ("prompt_tokens_total", "generation_tokens_total")]
    assert trace.error is None and trace.steps and trace.steps[0].text.endswith("\n")
    usage = trace.usage["small"]
    assert [usage.prompt, usage.completion] == [b - a for a, b in zip(before, after, strict=True)]
    await engine.close()


async def test_the_doctor_finds_what_the_server_can_do(server: Server) -> None:
    findings = await examine(server.url)
    assert {finding.what: finding.works for finding in findings} == dict.fromkeys(
        (finding.what for finding in findings), True
    )
    assert len(findings) == 7
