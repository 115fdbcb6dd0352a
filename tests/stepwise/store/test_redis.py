"""The step store on a real Redis server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from stepwise.backends.scripted import ScriptedBackend
from stepwise.cli.main import main
from stepwise.engine.backend import Completion, Sampling
from stepwise.errors import BackendError, ConfigError
from stepwise.routers import Always, Confidence, ThresholdRouter
from stepwise.store import redis_server as connecting
from stepwise.store.backend import StoredBackend
from stepwise.store.batches import Batches
from stepwise.store.opening import open_store
from stepwise.store.redis import PREFIX, RedisStore
from stepwise.store.sqlite import SqliteStore
from stepwise.store.steps import Store
from stepwise.types import Signals, Trace, Usage
from tests.servers import RedisServer, redis_server
from tests.worlds import engine, problem

COMPLETION = Completion("a é\n", (97, 10), Usage(5, 2, 2, 0), Signals(-0.1, -0.2, 0.3, 0.9, 2), "stop")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    yield from redis_server(tmp_path_factory.mktemp("redis"))


@pytest.fixture
def store(server: RedisServer) -> Iterator[RedisStore]:
    client(server).flushall()
    opened = RedisStore(server.address)
    yield opened
    opened.close()


def client(server: RedisServer) -> Any:
    return redis.Redis(port=server.port)


def numbered(count: int) -> list[tuple[bytes, Completion]]:
    return [(i.to_bytes(16, "big"), replace(COMPLETION, text=f"{i}\n")) for i in range(1, count + 1)]


def test_the_first_that_is_put_is_got_by_everyone_and_is_bounded_in_time(
    store: RedisStore, server: RedisServer
) -> None:
    store.put(b"k", COMPLETION)
    store.put(b"k", replace(COMPLETION, text="another"))
    with_days = RedisStore(f"{server.address}?ttl_days=0.5")
    with_days.put(b"l", COMPLETION)
    assert with_days.get_many([b"k", b"other", b"l"]) == [COMPLETION, None, COMPLETION]
    assert 29 * 86_400 < client(server).ttl(PREFIX + b"k") <= 30 * 86_400
    assert client(server).ttl(PREFIX + b"l") <= 43_200


def test_two_writers_of_many_keys_leave_one_whole_entry_each(store: RedisStore) -> None:
    entries = numbered(400)
    new: list[int] = []
    writers = [threading.Thread(target=lambda: new.append(store.put_many(entries))) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sum(new) == 400
    assert store.get_many([key for key, _ in entries]) == [completion for _, completion in entries]


def test_copies_hold_the_same_and_a_second_copy_adds_nothing(
    store: RedisStore, server: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, back = tmp_path / "steps.db", tmp_path / "back.db"
    SqliteStore(here).put_many(numbered(2500))
    assert main(["store", "copy", str(here), server.address]) == 0
    assert main(["store", "copy", str(here), server.address]) == 0
    assert main(["store", "copy", server.address, str(back)]) == 0
    said = capsys.readouterr().out
    assert "2500 of 2500 completions copied, 0 were there" in said and "0 of 2500 completions" in said
    assert sorted(everything(SqliteStore(back))) == numbered(2500)
    assert main(["store", "copy", str(tmp_path / "none.db"), server.address]) == 2
    assert "there is no store" in capsys.readouterr().err and not (tmp_path / "none.db").exists()


def everything(store: Store) -> list[tuple[bytes, Completion]]:
    return [entry for page in store.pages(700) for entry in page]


def sweep(store: Store) -> tuple[list[Trace], int]:
    """The chains of a sweep, and the tokens that were generated for them."""
    world = engine()
    for name, backend in world.backends.items():
        backend.revision = name
        world.backends[name] = StoredBackend(backend, store)
    problems = [problem(1, n, 9 - n) for n in range(10)]

    async def solve() -> list[Trace]:
        traces = []
        for router in (Always("large"), ThresholdRouter(Confidence("min"), 0.5, "confidence")):
            traces += [trace async for trace in world.solve_many(problems, router)]
        return sorted(traces, key=lambda trace: (trace.problem.id, trace.cost))

    return world.run(solve()), sum(b.generated for b in world.backends.values() if hasattr(b, "generated"))


def test_chains_are_those_of_a_file_and_are_paid_for_once(store: RedisStore, tmp_path: Path) -> None:
    here, fresh, again = sweep(SqliteStore(tmp_path / "steps.db")), sweep(store), sweep(store)
    assert here == fresh
    assert fresh[0] == again[0] and fresh[1] > 0 and again[1] == 0


async def test_callers_of_one_address_share_its_look_up_and_its_generation(store: RedisStore) -> None:
    backend = ScriptedBackend(lambda _: "done")
    stored = StoredBackend(backend, store)
    replies = await asyncio.gather(*(stored.generate([1], Sampling()) for _ in range(5)))
    assert {reply.text for reply in replies} == {"done"} and len(backend.calls) == 1


async def test_calls_that_arrive_during_a_round_trip_share_the_next() -> None:
    trips: list[int] = []
    gate = threading.Event()

    def double(items: Any) -> list[int]:
        gate.wait(5)
        trips.append(len(items))
        return [2 * item for item in items]

    batches = Batches[int, int](double)
    calls = [asyncio.create_task(batches(i)) for i in range(50)]
    await asyncio.sleep(0)
    more = [asyncio.create_task(batches(i)) for i in range(50, 100)]
    await asyncio.sleep(0)
    more[3].cancel()
    gate.set()
    assert await asyncio.gather(*calls) == [2 * i for i in range(50)]
    rest = await asyncio.gather(*more, return_exceptions=True)
    assert [r for r in rest if not isinstance(r, BaseException)] == [2 * i for i in range(50, 100) if i != 53]
    assert len(trips) <= 3


async def test_all_calls_of_a_round_trip_hear_of_its_failure() -> None:
    def fail(_: Any) -> list[int]:
        raise BackendError("the server is gone.")

    failures = await asyncio.gather(*(Batches[int, int](fail)(i) for i in range(3)), return_exceptions=True)
    assert [str(failure) for failure in failures] == ["the server is gone."] * 3


def test_what_was_stored_survives_the_server_and_calls_wait_for_it(tmp_path: Path) -> None:
    for server in redis_server(tmp_path):
        store = RedisStore(server.address)
        store.put(b"k", COMPLETION)
        server.kill()
        back = threading.Timer(0.3, server.start)
        back.start()
        assert store.get(b"k") == COMPLETION
        back.join()


async def test_a_store_that_stays_away_is_an_error_of_the_chain_and_what_was_paid_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "RETRIES", 1)
    for server in redis_server(tmp_path):
        store = RedisStore(server.address)

        async def away(_: str, server: RedisServer = server) -> None:
            server.kill()

        stored = StoredBackend(ScriptedBackend(lambda _: "done", before=away), store)
        lost: list[Usage] = []
        with pytest.raises(BackendError, match=r"store: redis://127.0.0.1:\d+/0 failed") as failure:
            await stored.generate([1], Sampling(), lost.append)
        assert failure.value.retryable
        assert [usage.completion for usage in lost] == [5]  # four characters and the end


@pytest.mark.parametrize(
    "address, message",
    [
        ("redis://127.0.0.1:{port}/99", "has no database 99"),
        ("redis://127.0.0.1:{port}/one", "must be a number, not 'one'"),
        ("redis://127.0.0.1:99999", "must be a number up to 65535"),
        ("redis:///0", "names no host"),
        ("redis://127.0.0.1:1/0", "redis://127.0.0.1:1/0 cannot be reached"),
        ("rediss://127.0.0.1:{port}/0", "cannot be reached"),
        ("rediss://127.0.0.1:{port}/0?ca_file=/no/such.pem", "ca_file: there is no file '/no/such.pem'"),
        ("redis://me:secret@127.0.0.1:{port}/0", "was given with a password"),
        ("redis://127.0.0.1:{port}/0?password_env=NO_SUCH", "environment variable 'NO_SUCH' is not set"),
        ("redis://127.0.0.1:{port}/0?ttl=3", "takes the options .*ttl_days.*, not 'ttl'"),
        ("redis://127.0.0.1:{port}/0?ttl_days=never", "ttl_days must be a number of days above 0"),
        ("http://127.0.0.1:{port}", "store must be redis:// or rediss://"),
    ],
)
def test_bad_addresses_are_one_sentence_and_show_no_password(
    address: str, message: str, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "TIMEOUT_S", 0.5)  # of a handshake that nobody answers
    with pytest.raises(ConfigError, match=message) as refused:
        open_store(address.replace("{port}", str(server.port)))
    assert "secret" not in str(refused.value) and "\n" not in str(refused.value)


def test_a_password_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for server in redis_server(tmp_path, "--requirepass", "open sesame", "--appendonly", "yes"):
        with pytest.raises(ConfigError, match=r"wants a password; name its .* with \?password_env=NAME"):
            open_store(server.address)
        monkeypatch.setenv("WRONG", "not this")
        with pytest.raises(ConfigError, match="refuses the password in WRONG"):
            open_store(f"{server.address}?password_env=WRONG")
        monkeypatch.setenv("REDIS_PASSWORD", "open sesame")
        open_store(f"{server.address}?password_env=REDIS_PASSWORD").put(b"k", COMPLETION)


def test_a_server_that_keeps_nothing_on_disk_is_refused_unless_that_is_accepted(tmp_path: Path) -> None:
    for server in redis_server(tmp_path, "--save", "", "--appendonly", "no"):
        with pytest.raises(ConfigError, match=r"keeps nothing on disk.*--appendonly yes.*\?volatile=yes"):
            open_store(server.address)
        open_store(f"{server.address}?volatile=yes").put(b"k", COMPLETION)


def test_a_full_server_forgets_by_its_policy_or_says_so(tmp_path: Path) -> None:
    limits = ("--maxmemory", "3mb", "--save", "3600 1")
    for server in redis_server(tmp_path, *limits, "--maxmemory-policy", "allkeys-lru"):
        store = RedisStore(server.address)
        assert sum(store.put_many(numbered(2000)) for _ in range(10)) > 0  # goes on for ever
    for server in redis_server(tmp_path, *limits, "--maxmemory-policy", "noeviction"):
        store = RedisStore(server.address)
        with pytest.raises(BackendError, match="command not allowed when used memory"):
            store.put_many((i.to_bytes(16, "big"), COMPLETION) for i in range(40_000))
