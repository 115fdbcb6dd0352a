"""llama-server itself, with the float32 weights of the embedded backend.

``make test-llama`` builds it and runs this. Where ``LLAMA_SERVER`` names no binary these tests are skipped.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
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
from stepwise.models.model import Model, options_of
from stepwise.models.pair import Pair
from stepwise.routers import Always, Confidence, FirstTokenEntropy, ThresholdRouter
from stepwise.types import Router, Usage
from tests.cut_connections import Proxy
from tests.gguf_file import save_gguf
from tests.servers import free_port
from tests.stepwise.backends.contract import *  # noqa: F403
from tests.stepwise.backends.contract import Subject

BINARY = os.environ.get("LLAMA_SERVER", "")
pytestmark = [
    pytest.mark.llama_server,
    pytest.mark.skipif(not BINARY, reason="LLAMA_SERVER names no llama-server: make test-llama builds one"),
]
NANO = load_pair("nano").models[0]
PROBLEMS = load_dataset("nano", split="validation", limit=12)
PRECISE = ("--cache-type-k", "f32", "--cache-type-v", "f32", "--flash-attn", "off")
"""Keys and values as the embedded backend keeps them."""


@dataclass(frozen=True)
class Server:
    url: str

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return str(answer.read().decode())

    def counter(self, name: str) -> int:
        (value,) = re.findall(rf"^llamacpp:{name} (\d+)$", self.get("/metrics"), re.MULTILINE)
        return int(value)

    def counters(self) -> tuple[int, int]:
        """Prompt and generated tokens."""
        computed, cached = map(self.counter, ("prompt_tokens_total", "prompt_tokens_cached_total"))
        return computed + cached, self.counter("tokens_predicted_total")

    def model(self, url: str = "") -> Model:
        backend = {"name": "llama-server", "base_url": url or self.url, "patience": {"first_wait_s": 0.01}}
        return Model("small", NANO.path, backend=backend)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("llama")
    weights, port = save_gguf(Path(NANO.path), folder / "nano.gguf"), free_port()
    command = [
        *(BINARY, "--model", str(weights), "--host", "127.0.0.1", "--port", str(port), "--threads", "1"),
        *("--ctx-size", "1024", "--parallel", "1", "--metrics", *PRECISE),
    ]
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    served, deadline = Server(f"http://127.0.0.1:{port}"), time.monotonic() + 60
    try:
        while not _ready(served):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"llama-server did not start:\n{(folder / 'log.txt').read_text()[-3000:]}")
            time.sleep(0.05)
        yield served
    finally:
        process.terminate()
        process.wait(30)


def _ready(server: Server) -> bool:
    try:
        return bool(server.get("/health"))
    except OSError:
        return False


@pytest.fixture(scope="module")
def reference() -> dict[str, str]:
    """The same chains by `transformers`."""
    alone = load_pair("nano").engine(models=["small"])
    texts = {p.id: alone.solve_sync(p, Always("small")).text for p in PROBLEMS}
    alone.run(alone.close())
    return texts


@pytest.fixture
async def subject(server: Server, reference: dict[str, str]) -> AsyncIterator[Subject]:
    problem = PROBLEMS[0]
    async with Proxy(server.url).running() as proxy:
        model = server.model(proxy.url)
        backend = await asyncio.to_thread(model.open, options_of("transformers"), share=1)
        yield Subject(
            backend, problem.question + "\n", "\n", reference[problem.id], server.counters, proxy.cut
        )
        await backend.close()


@pytest.fixture
async def engine(server: Server) -> AsyncIterator[Engine]:
    opened = Pair("served", (server.model(),), prompt="{question}\n").engine()
    yield opened
    await opened.close()


@pytest.mark.parametrize("lookahead", [False, True])
async def test_chains_are_those_of_transformers(
    server: Server, reference: dict[str, str], lookahead: bool
) -> None:
    engine = Pair("served", (server.model(),), prompt="{question}\n").engine(lookahead=lookahead)
    texts = {t.problem.id: t.text async for t in engine.solve_many(PROBLEMS, Always("small"))}
    assert sum(texts[i] == reference[i] for i in texts) >= len(PROBLEMS) - 1  # a tie may fall the other way
    await engine.close()


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
    before, total = server.counters(), Usage()
    async for trace in engine.solve_many(PROBLEMS, router, concurrency=4):
        total += trace.usage["small"]
    prompt, written = (b - a for a, b in zip(before, server.counters(), strict=True))
    assert (total.prompt, total.completion + total.discarded) == (prompt, written)


@pytest.mark.parametrize("path", ["", "/v1"])
async def test_the_doctor_names_the_backend(server: Server, path: str) -> None:
    findings = {finding.what: finding for finding in await examine(server.url + path)}
    assert all(finding.works for finding in findings.values())
    assert findings["token ids in both directions"].note == f"backend llama-server, base_url {server.url}"
    assert findings["token ids in both directions"].backend == "llama-server"


async def test_leaving_a_generation_stops_it_on_the_server(server: Server, subject: Subject) -> None:
    generation = subject.backend.begin(subject.backend.encode(subject.prompt), Sampling(500))  # type: ignore[attr-defined]
    await generation.read()
    await generation.stop()
    await asyncio.wait_for(_idle(server), 30)


async def _idle(server: Server) -> None:
    while server.counter("requests_processing"):
        await asyncio.sleep(0.01)
