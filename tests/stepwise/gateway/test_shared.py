"""Replicas with one set of accounts, on a real Redis server that is also killed."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepwise.calibration import OnlineThreshold
from stepwise.cli.main import main
from stepwise.cli.serve import RATE
from stepwise.errors import ConfigError
from stepwise.gateway import redis_accounts, shared
from stepwise.gateway.failures import Refusal
from stepwise.gateway.keys import Tenant, digest
from stepwise.gateway.redis_accounts import PREFIX, RedisAccounts
from stepwise.gateway.shared import SharedSpending
from stepwise.gateway.spending import Reservation, Spending
from stepwise.routers import Always
from stepwise.types import Problem
from tests.gateway_replica import waiting_engine
from tests.records import spread_record
from tests.servers import RedisServer, redis_server

ALICE = Tenant("alice", "0", spend=10.0)
BOB = Tenant("bob", "1", concurrency=4)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    yield from redis_server(tmp_path_factory.mktemp("redis"))


@pytest.fixture
def server(running: RedisServer) -> RedisServer:
    client(running).flushall()
    return running


def client(server: RedisServer) -> Any:
    return redis.Redis(port=server.port)


def replica(server: RedisServer, *, down: str = "refuse", **more: Any) -> SharedSpending:
    return SharedSpending(RedisAccounts(f"{server.address}?down={down}"), tenants=[ALICE], **more)


async def let_in(spending: SharedSpending, tenant: Tenant, *amounts: float) -> Reservation:
    reservation = spending.reserve(tenant, amounts)
    try:
        await spending.admit(reservation)
    except Refusal:
        reservation.release()
        raise
    return reservation


async def settled(*replicas: SharedSpending) -> None:
    """Once they have said everything."""
    for spending in replicas:
        while spending._trip is not None:
            await asyncio.wait({spending._trip})


def spent(server: RedisServer, tenant: str = "alice") -> float:
    keys = client(server).keys(f"{PREFIX}spent:*:{tenant}")
    return sum(float(amount) for key in keys for amount in client(server).hvals(key))


async def test_what_is_put_aside_on_one_replica_is_taken_on_the_others(server: RedisServer) -> None:
    first, second = replica(server), replica(server)
    held = [await let_in(first, ALICE, 4.0), await let_in(second, ALICE, 4.0)]
    third = await let_in(first, ALICE, 4.0)  # 8 of 10 are taken
    with pytest.raises(Refusal, match="spent its limit of 10") as refused:
        await let_in(second, ALICE, 4.0)
    assert refused.value.status == 429 and refused.value.retry_after
    third.release()
    await settled(first)
    again = await let_in(second, ALICE, 1.0, 1.0)
    for reservation, cost in ((held[0], 5.0), (held[1], 4.5), (again, 0.4)):
        reservation.settle(0, cost)
        reservation.release()
    await settled(first, second)
    assert spent(server) == pytest.approx(9.9)
    (await let_in(first, ALICE, 0.2)).settle(0, 0.2)
    await settled(first)
    with pytest.raises(Refusal):
        await let_in(replica(server), ALICE, 0.1)


async def test_of_many_at_the_same_moment_those_are_let_in_that_fit(server: RedisServer) -> None:
    replicas = [replica(server) for _ in range(3)]
    asked = [let_in(replicas[i % 3], ALICE, 1.0) for i in range(30)]
    came = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(one, Reservation) for one in came) == 10
    assert all(isinstance(one, Reservation | Refusal) for one in came)


async def test_a_keys_chains_are_counted_on_all_replicas(server: RedisServer) -> None:
    first, second = replica(server), replica(server)
    held = await let_in(first, BOB, 1.0, 1.0, 1.0)
    with pytest.raises(Refusal, match="may run 4 chains at once") as refused:
        await let_in(second, BOB, 1.0, 1.0)
    assert refused.value.code == "key_concurrency"
    await let_in(second, BOB, 1.0)
    held.release()
    await settled(first)
    await let_in(second, BOB, 1.0, 1.0, 1.0)


async def test_a_request_that_is_given_up_while_it_asks_holds_nothing(server: RedisServer) -> None:
    spending = replica(server)
    asking = asyncio.create_task(let_in(spending, ALICE, 9.0))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await settled(spending)
    assert not client(server).hgetall(f"{PREFIX}held:alice")


async def test_what_a_dead_replica_held_is_spent_until_it_speaks_again(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, other = replica(server), replica(server)
    await let_in(dead, ALICE, 3.0, 3.0)
    with monkeypatch.context() as patched:
        patched.setattr(redis_accounts, "LEASE_S", 0.0)
        await let_in(other, ALICE, 1.0)
    assert spent(server) == 6.0 and set(client(server).hgetall(f"{PREFIX}held:alice")) != {b""}
    await let_in(dead, ALICE, 1.0)
    assert spent(server) == 0.0


lessons = st.tuples(st.integers(0, 2), st.floats(0, 50), st.floats(0.01, 50))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(st.lists(lessons, max_size=12))
def test_the_threshold_moves_as_if_one_server_had_seen_all_chains(
    server: RedisServer, seen: list[tuple[int, float, float]]
) -> None:
    client(server).flushall()

    async def merged() -> list[SharedSpending]:
        replicas = [replica(server, online=online()) for _ in range(3)]
        for i, cost, alone in seen:
            replicas[i].learn(cost, alone)
            await settled(replicas[i])
        return [*replicas, replica(server, online=online())]

    single = Spending(online())
    for _, cost, alone in seen:
        single.learn(cost, alone)
    replicas = asyncio.run(merged())
    latest = [replicas[-1], *([replicas[seen[-1][0]]] if seen else [])]
    for spending in latest:
        assert spending.online is not None and single.online is not None
        assert spending.online.state() == pytest.approx(single.online.state(), abs=1e-12)
        assert (spending._alone, spending._seen) == pytest.approx((single._alone, single._seen))


def online() -> OnlineThreshold:
    return OnlineThreshold(spread_record(500), 0.4, rate=RATE)


async def test_lessons_that_came_and_whose_answer_was_lost_are_not_taken_twice(server: RedisServer) -> None:
    spending = replica(server, online=online())
    spending.learn(3.0, 4.0)
    said = spending._say([])
    for _ in range(2):
        spending._server.exchange(*said)
    await settled(spending)
    single = Spending(online())
    single.learn(3.0, 4.0)
    assert spending.online is not None and single.online is not None
    assert spending.online.state() == pytest.approx(single.online.state())


async def test_recent_chains_are_those_of_all_replicas(server: RedisServer) -> None:
    first, second = replica(server), replica(server)
    for i in range(60):
        (first, second)[i % 2].recent.add("alice", {"id": i})
        await settled(first, second)
    first.recent.add("bob", {"id": "his"})
    assert [entry["id"] for entry in await second.recent.of("alice")] == list(range(59, 9, -1))


@pytest.fixture
def mortal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisServer]:
    """A server that a test may kill; its return is noticed at once."""
    monkeypatch.setattr(shared, "KNOCK_S", 0.01)
    yield from redis_server(tmp_path)


async def test_with_the_server_down_tenants_with_limits_are_refused_and_it_recovers(
    mortal: RedisServer,
) -> None:
    spending = replica(mortal)
    living = asyncio.create_task(spending.keep_saved())
    running = await let_in(spending, ALICE, 2.0)
    mortal.kill()
    for _ in range(2):
        with pytest.raises(Refusal, match="cannot be reached, and this key has limits") as refused:
            await let_in(spending, ALICE, 1.0)
        assert refused.value.status == 503 and refused.value.retry_after == 1
    await let_in(spending, Tenant("free", "2"), 1.0)
    running.settle(0, 3.5)  # meanwhile
    running.release()
    assert spending.away
    mortal.start()
    await back(spending)
    assert spent(mortal) == 3.5 and not client(mortal).hgetall(f"{PREFIX}held:alice")
    await let_in(spending, ALICE, 1.0)
    living.cancel()


async def back(*replicas: SharedSpending) -> None:
    async with asyncio.timeout(20):
        while any(spending.away for spending in replicas):
            await asyncio.sleep(0.005)
    await settled(*replicas)


async def test_with_the_server_down_each_spends_its_share_of_what_was_left(mortal: RedisServer) -> None:
    first, second = replica(mortal, down="allow"), replica(mortal, down="allow")
    living = [asyncio.create_task(spending.keep_saved()) for spending in (first, second)]
    first.charge(ALICE, 2.0)
    await settled(first)
    for spending in (first, second):  # both know that 8 are left, and of each other
        (await let_in(spending, ALICE, 0.1)).release()
        await settled(spending)
    (await let_in(first, BOB, 1.0)).release()
    mortal.kill()
    came = [
        await asyncio.gather(*(let_in(spending, ALICE, 2.0) for _ in range(5)), return_exceptions=True)
        for spending in (first, second)
    ]
    inside = [[one for one in group if isinstance(one, Reservation)] for group in came]
    assert [len(group) for group in inside] == [2, 2]
    with pytest.raises(Refusal, match="may run 4"):
        await let_in(first, BOB, 1.0, 1.0, 1.0)
    await let_in(first, BOB, 1.0, 1.0)
    for reservation in (one for group in inside for one in group):
        reservation.settle(0, 2.0)
        reservation.release()
    mortal.start()
    await back(first, second)
    assert spent(mortal) == pytest.approx(10.0)
    for task in living:
        task.cancel()


@pytest.mark.parametrize(
    "option, message",
    [
        ("?down=maybe", "down must be refuse or allow, not 'maybe'"),
        ("?ttl_days=3", "takes the options password_env, ca_file, down, not 'ttl_days'"),
        ("?password_env=NO_SUCH", "environment variable 'NO_SUCH' is not set"),
    ],
)
def test_bad_addresses_are_one_sentence(option: str, message: str, server: RedisServer) -> None:
    with pytest.raises(ConfigError, match=message):
        RedisAccounts(server.address + option)


def test_accounts_in_another_unit_and_on_a_server_that_forgets_are_refused(
    server: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    RedisAccounts(server.address, "FLOPs")
    with pytest.raises(ConfigError, match=r"counts in FLOPs, this server in \$"):
        RedisAccounts(server.address, "$")
    assert main(["serve", "--port", "0", "--cost", "tokens", "--state", server.address]) == 2
    assert "counts in FLOPs, this server in tokens" in capsys.readouterr().err
    for other in redis_server(tmp_path, "--maxmemory", "9mb", "--maxmemory-policy", "allkeys-lru"):
        with pytest.raises(ConfigError, match=r"forgets keys when it is full \(maxmemory-policy allkeys-lru"):
            RedisAccounts(other.address)


KEY, QUESTION = "a key that is long enough", "What is 1 + 2 + 4?"
LEASE_S = 1.0


def started(server: RedisServer, keys: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.gateway_replica", server.address, str(keys), str(LEASE_S)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def url(replica: subprocess.Popen[str]) -> str:
    """Where it listens, once it does."""
    assert replica.stdout is not None
    return f"http://127.0.0.1:{int(replica.stdout.readline())}"


@contextmanager
def processes(server: RedisServer, keys: Path) -> Iterator[list[subprocess.Popen[str]]]:
    replicas = [started(server, keys) for _ in range(4)]
    try:
        yield replicas
    finally:
        for replica in replicas:
            replica.kill()
            replica.communicate()


class Clients:
    """Ask until the limit is spent, one request at a time each, whichever replica answers."""

    def __init__(self, urls: list[str]) -> None:
        self.urls, self.costs, self.codes = urls, list[float](), list[str]()
        self.news = asyncio.Condition()

    async def all(self) -> None:
        limits = httpx.Limits(max_connections=CLIENTS)
        headers = {"Authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(headers=headers, timeout=30, limits=limits) as http:
            await asyncio.gather(*(self._run(http, random.Random(seed)) for seed in range(CLIENTS)))

    async def _run(self, http: httpx.AsyncClient, draw: random.Random) -> None:
        refused = 0
        while refused < 3:  # the first refusals may be for what others only hold
            body = {"model": "stepwise", "prompt": QUESTION}
            with suppress(httpx.TransportError):  # of the replica that was killed
                answer = (await http.post(f"{draw.choice(self.urls)}/v1/completions", json=body)).json()
                code = answer.get("error", {}).get("code", "answered")
                refused += code == "spend_limit"
                await self._note(code, answer)

    async def _note(self, code: str, answer: Any) -> None:
        self.codes.append(code)
        if code == "answered":
            self.costs.append(answer["stepwise"]["cost"])
        async with self.news:
            self.news.notify_all()

    async def until(self, reached: Callable[[], bool]) -> None:
        async with self.news:
            await self.news.wait_for(reached)


CLIENTS, CHAINS = 64, 400


async def test_four_replicas_keep_one_limit_under_load_and_losses(tmp_path: Path) -> None:
    """64 clients spend a limit; one replica and the server are killed meanwhile."""
    cost = await one_chain()
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[alice]\nsha256 = "{digest(KEY)}"\nspend = {CHAINS * cost}\n')
    for server in redis_server(tmp_path):
        clients = await under_load(server, keys)
        booked, limit = spent(server), CHAINS * cost
        assert sum(clients.costs) <= booked + 1e-6
        assert limit - CLIENTS * cost <= booked <= limit + CLIENTS * cost
        at_once = CLIENTS / 4 * cost  # what the replica that was killed ran
        assert booked - sum(clients.costs) <= 2 * at_once
        assert set(clients.codes) <= {"answered", "spend_limit", "state_unavailable"}


async def under_load(server: RedisServer, keys: Path) -> Clients:
    """The clients of four replicas, once the limit is spent."""
    with processes(server, keys) as replicas:
        clients = Clients([url(replica) for replica in replicas])
        work = asyncio.create_task(clients.all())
        await clients.until(lambda: len(clients.costs) >= CHAINS // 4)
        replicas[0].kill()
        await clients.until(lambda: len(clients.costs) >= CHAINS // 2)
        server.kill()
        await clients.until(lambda: "state_unavailable" in clients.codes)
        server.start()
        await asyncio.wait_for(work, 120)
        for replica in replicas[1:]:
            replica.send_signal(signal.SIGTERM)
        ends = [await asyncio.to_thread(replica.wait) for replica in replicas[1:]]
        assert ends == [0, 0, 0]
        return clients


async def one_chain() -> float:
    """What a chain costs there."""
    return (await waiting_engine().attempt(Problem("p", QUESTION), Always("model"))).cost
