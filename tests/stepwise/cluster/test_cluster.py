"""Work on a real Ray cluster of several nodes on this machine, with what can go wrong on one."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray
from msgspec import structs
from ray.cluster_utils import Cluster

from stepwise.cluster import pool as pools
from stepwise.cluster import workers
from stepwise.cluster.connect import join
from stepwise.cluster.pool import Pool
from stepwise.cluster.settings import ClusterSettings
from stepwise.engine.concurrency import run
from stepwise.errors import BackendError, ConfigError
from stepwise.evaluation.rows import Row, read_rows
from stepwise.evaluation.run import evaluate
from stepwise.evaluation.solver import OnCluster
from stepwise.store.opening import open_store
from stepwise.store.sqlite import SqliteStore
from tests.clustered_run import Recipe, TracesRecipe
from tests.clusters import NODE, two_nodes
from tests.killed_run import CONCURRENCY, CONTENDERS, PROBLEMS, pair
from tests.servers import RedisServer, redis_server
from tests.stepwise.engine.test_faults import Served, free_port, until


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    yield from two_nodes()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    yield from redis_server(tmp_path_factory.mktemp("redis"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    served = Served(free_port(), tmp_path / "log.jsonl")
    served.start()
    yield served
    served.kill()


@pytest.fixture
def database(redis: RedisServer) -> str:
    """The address of an empty store."""
    import redis as client

    client.Redis(port=redis.port).flushall()
    return redis.address


@dataclass(frozen=True)
class Echo:
    """A service that answers with what it is asked, or goes down with it."""

    about: str = "an echo"

    async def __call__(self, word: str) -> str:
        if word == "die":
            os._exit(1)
        if word == "refuse":
            raise ConfigError("refused.")
        return word

    async def close(self) -> None: ...


class EchoRecipe:
    def __call__(self) -> Echo:
        return Echo()


class NoRecipe:
    def __call__(self) -> Echo:
        raise ConfigError("model 'small' is not on this machine.")


def essence(rows: Sequence[Row]) -> list[Row]:
    """Rows without their timing, in a fixed order."""
    kept = [structs.replace(row, wall_s=0.0) for row in rows]
    return sorted(kept, key=lambda row: (row.router, row.problem))


async def undisturbed(server: Served, folder: Path) -> Sequence[Row]:
    """The rows of one machine."""
    engine = pair(server.port).engine(store=SqliteStore(folder / "steps.db"))
    rows = await evaluate(engine, PROBLEMS, CONTENDERS, folder / "here.jsonl", concurrency=CONCURRENCY)
    await engine.close()
    return rows


def repeated(lines: list[str]) -> int:
    """Completions that a model was asked for again."""
    return sum(count - 1 for count in Counter(lines).values())


class Rows(list[Row]):
    """What has come of a run, for those who wait for a moment of it."""

    def __init__(self) -> None:
        self._more = asyncio.Condition()

    def __call__(self, rows: Sequence[Row]) -> None:
        self.extend(rows)
        self._wake = asyncio.ensure_future(self._tell())

    async def _tell(self) -> None:
        async with self._more:
            self._more.notify_all()

    async def reach(self, count: int) -> None:
        async with self._more:
            await self._more.wait_for(lambda: len(self) >= count)


def test_rows_are_those_of_one_machine_and_a_second_run_adds_none(
    cluster: Cluster, server: Served, database: str, tmp_path: Path
) -> None:
    here = run(undisturbed(server, tmp_path))
    solver = OnCluster(Pool(Recipe(server.port, database), ClusterSettings(), concurrency=CONCURRENCY))
    assert solver.pool.capacity == 2 * CONCURRENCY and solver.about.models == ("small", "large")
    seen: list[Row] = []
    for _ in range(2):
        rows = run(
            evaluate(
                solver, PROBLEMS, CONTENDERS, tmp_path / "rows.jsonl", concurrency=solver.pool.capacity,
                progress=seen.extend,
            )
        )  # fmt: skip
        assert essence(rows) == essence(here) and len(rows) == len(PROBLEMS) * len(CONTENDERS)
    assert len(seen) == 2 * len(here) and read_rows(tmp_path / "rows.jsonl")
    run(solver.close())


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.long)])
async def test_workers_that_are_killed_lose_nothing_and_repeat_only_what_was_in_flight(
    kills: int, cluster: Cluster, server: Served, database: str, tmp_path: Path
) -> None:
    here = await undisturbed(server, tmp_path)
    before, draw, come = len(server.lines()), random.Random(kills), Rows()
    pool = Pool(Recipe(server.port, database), ClusterSettings(), concurrency=CONCURRENCY)

    async def kill() -> None:
        for moment in sorted(draw.sample(range(1, len(here) - 5), kills)):
            actor = draw.choice([place.actor for place in pool._places])
            process = await actor.process.options(max_task_retries=-1).remote()
            await come.reach(moment)  # last: an answer of the worker would come when it has time for one
            os.kill(process, signal.SIGKILL)

    killer = asyncio.create_task(kill())
    work = evaluate(
        OnCluster(pool), PROBLEMS, CONTENDERS, tmp_path / "rows.jsonl", concurrency=pool.capacity,
        progress=come,
    )  # fmt: skip
    rows = await work
    await killer
    await pool.close()
    assert essence(rows) == essence(here) and pool.repeated
    assert repeated(server.lines()[before:]) <= pool.repeated


async def test_a_node_that_is_lost_leaves_its_work_to_the_others(
    cluster: Cluster, server: Served, database: str, tmp_path: Path
) -> None:
    here = await undisturbed(server, tmp_path)
    third, come = cluster.add_node(num_cpus=1, **NODE), Rows()
    pool = Pool(Recipe(server.port, database), ClusterSettings(), concurrency=CONCURRENCY)
    assert len(pool._places) == 3
    work = asyncio.create_task(
        evaluate(
            OnCluster(pool), PROBLEMS, CONTENDERS, tmp_path / "rows.jsonl", concurrency=pool.capacity,
            progress=come,
        )
    )  # fmt: skip
    await come.reach(20)
    await asyncio.to_thread(cluster.remove_node, third, allow_graceful=False)
    assert essence(await work) == essence(here)
    await pool.close()


async def test_whole_chains_come_from_workers_too(cluster: Cluster, server: Served, database: str) -> None:
    engine, router = pair(server.port).engine(store=open_store(database)), CONTENDERS[-1].router
    here = [await engine.attempt(problem, router) for problem in PROBLEMS[:10]]
    pool = Pool(TracesRecipe(server.port, database), ClusterSettings(workers=1), concurrency=CONCURRENCY)
    there = await asyncio.gather(*(pool(problem, router) for problem in PROBLEMS[:10]))
    assert there == here
    await asyncio.gather(engine.close(), pool.close())


def test_a_driver_that_is_killed_goes_on_when_the_command_is_repeated(
    cluster: Cluster, server: Served, database: str, tmp_path: Path
) -> None:
    here = run(undisturbed(server, tmp_path))
    before = len(server.lines())
    command = [sys.executable, "-m", "tests.clustered_run", str(server.port), database, cluster.address]
    for target in (5, 60):
        driver = subprocess.Popen([*command, str(tmp_path)])
        until(lambda target=target, driver=driver: rows_in(tmp_path) >= target or driver.poll() is not None)  # type: ignore[misc]
        assert driver.poll() is None, "the run ended before it could be killed"
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    subprocess.run([*command, str(tmp_path)], check=True)
    rows = read_rows(tmp_path / "rows.jsonl")
    assert essence(rows) == essence(here)
    in_flight = 2 * 2 * CONCURRENCY  # of two drivers, each with two workers
    assert repeated(server.lines()[before:]) <= in_flight


def rows_in(folder: Path) -> int:
    file = folder / "rows.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


async def test_a_call_that_takes_workers_down_is_given_up_and_the_others_go_on(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "ATTEMPTS", 2)
    pool = Pool(EchoRecipe(), ClusterSettings(workers=1), concurrency=2)
    deadly, harmless = await asyncio.gather(
        pool("die"), *(pool(f"{i}") for i in range(1)), return_exceptions=True
    )
    assert isinstance(deadly, BackendError) and "2 workers went down in a row" in str(deadly)
    assert harmless == "0" or isinstance(harmless, BackendError)
    with pytest.raises(ConfigError, match="^refused.$"):
        await pool("refuse")
    assert await pool("alive") == "alive"
    await pool.close()


@pytest.mark.parametrize(
    "given, message",
    [
        ({"workers": 99}, "cluster.workers: 99 of 1 CPUs and 0 GPUs each do not fit on .* which has [1-9]"),
        ({"gpus": 1}, "cluster.workers: 1 of 1 CPUs and 1 GPUs each do not fit .* and 0 GPUs"),
        ({"workers": -1}, "^workers must not be negative, got -1"),
        ({"cpus": 0}, "^cpus and gpus are both 0"),
    ],
)
def test_workers_that_do_not_fit_are_refused(given: Any, message: str, cluster: Cluster) -> None:
    with pytest.raises(ConfigError, match=message):
        Pool(EchoRecipe(), ClusterSettings(**given))


def test_a_service_that_cannot_be_built_and_other_code_on_a_worker_are_refused(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="model 'small' is not on this machine"):
        Pool(NoRecipe(), ClusterSettings())
    monkeypatch.setattr(workers, "code_version", lambda: "0.0.9-abc on Python 3.9.1")
    with pytest.raises(
        ConfigError, match=r"a worker runs stepwise .*, this process 0\.0\.9-abc.* every node"
    ):
        Pool(EchoRecipe(), ClusterSettings())


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere://x"])
def test_a_cluster_that_cannot_be_joined_is_one_sentence(address: str) -> None:
    """In a process of its own, which has joined no cluster yet."""
    code = f"from stepwise.cluster.connect import join; join({address!r})"
    joined = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"ConfigError: cluster.address: no Ray cluster can be joined at {address}" in joined.stderr


@pytest.mark.parametrize(
    "error, message",
    [
        (
            RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.9.0"),
            "the cluster at auto and this process run different versions: .* Ray: 2.9.0",
        ),
        (
            Exception("The current node timed out."),
            "no Ray cluster can be joined at auto: The",
        ),
    ],
)
def test_what_ray_refuses_at_the_start_is_one_sentence(
    error: Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        raise error

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(ConfigError, match=f"cluster.address: {message}") as refused:
        join("auto")
    assert "\n" not in str(refused.value)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stepwise.extras.find_spec", lambda module: None)
    with pytest.raises(ConfigError, match="cluster=ray needs the extra 'cluster'"):
        join("auto")
