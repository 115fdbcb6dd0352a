"""The step store and the backend that remembers."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwise.backends.scripted import ScriptedBackend
from stepwise.engine.backend import Completion, Sampling
from stepwise.engine.engine import Engine
from stepwise.errors import BackendError, ConfigError
from stepwise.routers import Always, Confidence, ThresholdRouter
from stepwise.store.backend import StoredBackend
from stepwise.store.sqlite import SqliteStore
from stepwise.store.steps import key
from stepwise.types import Router, Signals, Usage
from tests.worlds import engine, problem

COMPLETION = Completion("a\n", (97, 10), Usage(5, 2, 2, 0), Signals(-0.1, -0.2, 0.3, 0.9, 2), "stop")


def test_what_is_put_is_got_also_by_another_process(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "deep" / "steps.db")
    store.put(b"k", COMPLETION)
    assert store.get(b"k") == COMPLETION and store.get(b"other") is None
    assert SqliteStore(tmp_path / "deep" / "steps.db").get(b"k") == COMPLETION
    assert len(store) == 1


@given(st.lists(st.integers(0, 2**31), max_size=6), st.lists(st.integers(0, 2**31), max_size=6))
def test_keys_tell_prefixes_apart(a: list[int], b: list[int]) -> None:
    assert (key("r", a, Sampling()) == key("r", b, Sampling())) == (a == b)


def test_keys_tell_models_and_sampling_apart() -> None:
    keys = {
        key("r", [1], Sampling()),
        key("s", [1], Sampling()),
        key("r", [1], Sampling(max_tokens=1)),
        key("r", [1], Sampling(temperature=0.6)),
        key("r", [1], Sampling(seed=1)),
        key("r", [1], Sampling(stop=("\n",))),
    }
    assert len(keys) == 6


async def test_all_who_wait_for_a_call_hear_that_it_failed() -> None:
    async def gone(_: str) -> None:
        raise BackendError("the server is gone.", retryable=True)

    backend = StoredBackend(ScriptedBackend(lambda _: "", before=gone), SqliteStore(":memory:"))
    asked = (backend.generate((1, 2), Sampling()) for _ in range(3))
    failures = await asyncio.gather(*asked, return_exceptions=True)
    assert all(isinstance(one, BackendError) and one.retryable for one in failures)
    assert [str(one) for one in failures] == ["the server is gone."] * 3


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "steps.db").write_text("this is not a database, and long enough to be looked at" * 30)
    with pytest.raises(ConfigError, match=r"store .*steps.db' cannot be opened"):
        SqliteStore(tmp_path / "steps.db")


def test_a_second_sweep_generates_nothing_and_costs_the_same(tmp_path: Path) -> None:
    def sweep() -> tuple[list[float], int]:
        world = engine()
        store = SqliteStore(tmp_path / "steps.db")
        for name, backend in world.backends.items():
            backend.revision = name
            world.backends[name] = StoredBackend(backend, store)
        routers: list[Router] = [ThresholdRouter(Confidence("min"), t, "confidence") for t in (0.0, 0.5, 2.0)]
        routers_and_ends = [*routers, Always("large")]
        costs = [world.solve_sync(problem(1, 9, 2), router).cost for router in routers_and_ends]
        return costs, sum(b.generated for b in world.backends.values() if isinstance(b, StoredBackend))

    fresh, written = sweep()
    again, repeated = sweep()
    assert fresh == again
    assert written > 0 and repeated == 0
    without = [engine().solve_sync(problem(1, 9, 2), Always("large")).cost]
    assert without == fresh[-1:]


async def test_generations_in_flight_are_shared_and_survive_one_cancelled_caller() -> None:
    gate = asyncio.Event()

    async def before(_: str) -> None:
        await gate.wait()

    backend = ScriptedBackend(lambda _: "done", before=before)
    stored = StoredBackend(backend, SqliteStore(":memory:"))
    first, second = (asyncio.create_task(stored.generate([1], Sampling())) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    gate.set()
    assert (await second).text == "done"
    assert len(backend.calls) == 1


async def test_the_last_cancelled_caller_stops_the_generation() -> None:
    stopped = asyncio.Event()

    async def before(_: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    stored = StoredBackend(ScriptedBackend(lambda _: "", before=before), SqliteStore(":memory:"))
    call = asyncio.create_task(stored.generate([1], Sampling()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await asyncio.wait_for(stopped.wait(), 5)


def test_writers_in_two_connections_do_not_disturb_each_other(tmp_path: Path) -> None:
    one, two = SqliteStore(tmp_path / "s.db"), SqliteStore(tmp_path / "s.db")
    for i in range(50):
        one.put(f"a{i}".encode(), COMPLETION)
        two.put(f"a{i}".encode(), COMPLETION)
        two.put(f"b{i}".encode(), COMPLETION)
    one.close()
    two.close()
    with sqlite3.connect(tmp_path / "s.db") as db:
        assert db.execute("SELECT count(*) FROM steps").fetchone() == (100,)


def test_a_store_that_breaks_is_said_once_and_the_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that something else was written into while it was open."""
    path = tmp_path / "steps.db"
    stored = worlds_engine(SqliteStore(path))
    whole = stored.solve_sync(problem(1, 7, 2), Always("small"))
    damaged = SqliteStore(path)
    with path.open("r+b") as file:
        file.write(b"no database" * 1000)
    path.with_name("steps.db-wal").unlink(missing_ok=True)
    trace = worlds_engine(damaged).solve_sync(problem(1, 7, 2), Always("small"))
    assert trace.text == whole.text and trace.error is None
    assert damaged.get(b"any") is None
    assert len(caplog.records) == 1 and "the run goes on without it" in caplog.text


def test_a_store_that_is_locked_or_full_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "steps.db"
    store = SqliteStore(path)
    store._db.execute("PRAGMA busy_timeout = 0")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for _ in range(3):
        store.put(b"k", COMPLETION)
    assert "database is locked; the run goes on without it" in caplog.text and len(caplog.records) == 1
    other.execute("ROLLBACK")
    store.put(b"k", COMPLETION)
    assert store.get(b"k") == COMPLETION
    full = SqliteStore(tmp_path / "full.db")
    full._db.execute("PRAGMA max_page_count = 3")
    for i in range(2000):
        full.put(f"k{i}".encode(), COMPLETION)
    assert "database or disk is full" in caplog.text and len(caplog.records) == 2


def worlds_engine(store: SqliteStore) -> Engine:
    usual = engine()
    backends = {name: StoredBackend(backend, store) for name, backend in usual.backends.items()}
    return Engine(backends, prompt="{question}\n", rule=usual.rule, cost=usual.cost)
