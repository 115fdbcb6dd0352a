"""Several servers of one model: which of them a chain prefers, and what happens when one is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwise.backends.http.replicas import ReplicatedBackend, preferred
from stepwise.backends.scripted import ScriptedBackend
from stepwise.engine.backend import Sampling
from stepwise.engine.engine import Engine
from stepwise.engine.prefix import Prefix
from stepwise.errors import BackendError, ConfigError, ContextOverflow
from stepwise.models.model import Model, options_of
from stepwise.models.pair import Pair
from stepwise.routers import Confidence, ThresholdRouter
from stepwise.types import Trace
from tests.stepwise.engine.test_faults import Served, free_port
from tests.worlds import problem

URLS = [f"http://host-{i}/v1" for i in range(8)]


def order(root: bytes, urls: Sequence[str] = URLS) -> list[str]:
    return preferred(dict.fromkeys(urls), root)


@given(st.lists(st.integers(0, 2**20), min_size=1), st.lists(st.lists(st.integers(0, 2**20)), max_size=5))
def test_a_chain_keeps_its_root_as_it_grows(question: list[int], steps: list[list[int]]) -> None:
    chain = Prefix(question)
    for step in steps:
        chain = chain.extend(step)
    assert chain.root() == Prefix(question).root()
    assert Prefix([*question, 1]).root() != chain.root()


def test_chains_spread_evenly_and_a_lost_server_moves_only_its_own() -> None:
    roots = [Prefix([i]).root() for i in range(4000)]
    first = [order(root)[0] for root in roots]
    shares = Counter(first)
    assert min(shares.values()) > 400 and max(shares.values()) < 600  # 500 each, 5 standard deviations of 21
    lost = URLS[3]
    left = [order(root, [url for url in URLS if url != lost])[0] for root in roots]
    assert all(now == before for now, before in zip(left, first, strict=True) if before != lost)
    assert len({now for now, before in zip(left, first, strict=True) if before == lost}) == 7


def replicas(*failing: str, rest_s: float = 60.0) -> tuple[ReplicatedBackend, dict[str, list[str]]]:
    """Eight servers, some of which fail, and the calls that reached each."""
    calls: dict[str, list[str]] = {url: [] for url in URLS}

    def server(url: str) -> ScriptedBackend:
        async def before(text: str) -> None:
            calls[url].append(text)
            if url in failing:
                raise BackendError(f"{url} is down.", retryable=True, wait_s=2.0)

        return ScriptedBackend(lambda _: "a\nb\nThe answer is 1.", before=before, context=100)

    return ReplicatedBackend({url: server(url) for url in URLS}, rest_s=rest_s), calls


async def test_all_steps_of_a_chain_go_to_one_server() -> None:
    backend, calls = replicas()
    chain = Prefix([1, 2])
    for _ in range(5):
        chain = chain.extend((await backend.generate(chain, Sampling(stop=("\n",)))).token_ids)
    assert sorted(map(len, calls.values())) == [0] * 7 + [5]


async def test_a_failing_server_gives_way_to_the_next_and_is_then_left_alone() -> None:
    question = Prefix([1, 2])
    first, second, *_ = order(question.root())
    backend, calls = replicas(first)
    for _ in range(5):
        assert (await backend.generate(question, Sampling())).text
    assert len(calls[first]) == 2 and len(calls[second]) == 5
    back, calls = replicas(first, rest_s=1e-9)
    for _ in range(5):
        await back.generate(question, Sampling())
    assert len(calls[first]) == 5  # one call each time, to see whether it is back


async def test_what_all_refuse_may_be_tried_again_and_a_chain_too_long_is_refused_once() -> None:
    backend, calls = replicas(*URLS)
    with pytest.raises(BackendError, match="is down") as failure:
        await backend.generate([1], Sampling())
    assert failure.value.retryable and failure.value.wait_s == 2.0 and all(calls.values())
    backend, calls = replicas()
    with pytest.raises(ContextOverflow):
        await backend.generate(range(200), Sampling())
    assert sum(map(len, calls.values())) == 1


async def test_where_all_servers_are_left_alone_they_are_asked_all_the_same() -> None:
    backend, calls = replicas(*URLS)
    for times in range(1, 6):
        with pytest.raises(BackendError, match="is down") as failure:
            await backend.generate([1], Sampling())
        assert failure.value.retryable and {len(asked) for asked in calls.values()} == {times}


def pair(*ports: int) -> Pair:
    urls = [f"http://127.0.0.1:{port}/v1" for port in ports]
    patience = {"first_wait_s": 0.05, "deadline_s": 20.0}
    chat = {
        "name": "chat", "base_url": urls[0], "replicas": urls[1:], "continues": True, "logprobs": True,
        "patience": patience,
    }  # fmt: skip
    models = tuple(Model(name, parameters=size, backend=chat) for name, size in (("small", 1), ("large", 20)))
    return Pair("served", models, prompt="{question}\n", max_step_tokens=64)


async def solve(engine: Engine, after: int = 0, kill: Served | None = None) -> list[Trace]:
    """Thirty chains; a server is killed after some of them."""
    problems = [problem(i % 10, i // 3, 7, 2) for i in range(30)]
    router, traces = ThresholdRouter(Confidence("min"), 0.5, "confidence"), []
    async for trace in engine.solve_many(problems, router, concurrency=4):
        traces.append(trace)
        if kill is not None and len(traces) == after:
            kill.kill()
    return traces


async def test_a_server_that_is_killed_loses_no_chain(tmp_path: Path) -> None:
    servers = [Served(free_port(), tmp_path / f"{i}.jsonl") for i in range(3)]
    for server in servers:
        server.start()
    engine = pair(*(server.port for server in servers)).engine()
    whole = await solve(engine)
    shares = [len(server.lines()) for server in servers]
    disturbed = await solve(engine, 5, servers[1])
    assert all(shares) and all(trace.error is None for trace in disturbed)
    answers = [sorted((t.problem.question, t.text) for t in traces) for traces in (whole, disturbed)]
    assert answers[0] == answers[1]
    await engine.close()
    for server in servers:
        server.kill()


def test_a_server_given_twice_is_refused() -> None:
    given = {"name": "chat", "base_url": URLS[0], "replicas": [URLS[1], URLS[0]]}
    with pytest.raises(ConfigError, match=r"replicas: .* names a server twice"):
        options_of(given)
