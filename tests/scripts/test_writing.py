"""Recordings whose chains are grown by workers of a real Ray cluster, with what can go wrong on one."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from scripts.record import record, write
from scripts.writing import models_of, writer_of
from stepwise.cluster.pool import Pool
from stepwise.recording.folder import Recording
from stepwise.recording.records import Chain, Record
from stepwise.recording.tree import Tree
from tests.clusters import two_nodes
from tests.killed_run import CONCURRENCY, CONTENDERS, PROBLEMS, pair
from tests.recorded_run import settings
from tests.stepwise.cluster.test_cluster import repeated
from tests.stepwise.engine.test_faults import Served, free_port, until


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    yield from two_nodes()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    served = Served(free_port(), tmp_path / "log.jsonl")
    served.start()
    yield served
    served.kill()


def undisturbed(server: Served, folder: Path) -> Tree:
    """What one process records."""
    return write(settings(folder / "here", None), pair(server.port), CONTENDERS, PROBLEMS)


def essence(tree: Tree) -> list[Any]:
    """All records, whatever their order."""
    return [tree.questions, tree.chains, tree._nodes, tree._reads, tree._outcomes]


class Killing(Recording):
    """A recording that kills a worker whenever it holds so many chains."""

    def __init__(self, folder: Path, pool: Pool, moments: list[int], draw: random.Random) -> None:
        super().__init__(folder, pool.about)
        self.kills: list[asyncio.Task[None]] = []
        self._pool, self._moments, self._draw = pool, moments, draw

    def add(self, record: Record) -> None:
        super().add(record)
        if isinstance(record, Chain) and len(self.tree.chains) in self._moments:
            self._moments.remove(len(self.tree.chains))
            self.kills.append(asyncio.ensure_future(self._kill()))

    async def _kill(self) -> None:
        actor = self._draw.choice(self._pool._places).actor
        os.kill(await actor.process.options(max_task_retries=-1).remote(), signal.SIGKILL)


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.long)])
async def test_workers_that_are_killed_leave_the_recording_of_one_process(
    kills: int, cluster: Cluster, server: Served, tmp_path: Path
) -> None:
    here = await asyncio.to_thread(undisturbed, server, tmp_path)
    before, draw, cfg = len(server.lines()), random.Random(kills), settings(tmp_path / "there", "auto")
    pool, concurrency = models_of(cfg, pair(server.port))
    assert isinstance(pool, Pool) and concurrency == 2 * CONCURRENCY
    moments = draw.sample(range(1, len(PROBLEMS) * len(CONTENDERS) - 5), kills)
    recording = Killing(tmp_path / "there", pool, moments, draw)
    await record(writer_of(pool, recording, PROBLEMS), PROBLEMS, CONTENDERS, recording, cfg, concurrency)
    await asyncio.gather(*recording.kills)
    await pool.close()
    assert len(recording.kills) == kills and pool.repeated
    assert essence(recording.tree) == essence(here)
    assert repeated(server.lines()[before:]) <= pool.repeated * max(c.steps for c in here.chains.values())


def test_a_recording_whose_driver_is_killed_goes_on_on_the_cluster_and_here(
    cluster: Cluster, server: Served, tmp_path: Path
) -> None:
    here, folder = undisturbed(server, tmp_path), tmp_path / "there"
    before = len(server.lines())
    command = [sys.executable, "-m", "tests.recorded_run", str(server.port), cluster.address, str(folder)]

    def chains() -> int:
        journal = folder / "journal.jsonl"
        return journal.read_bytes().count(b'"type":"chain"') if journal.exists() else 0

    for target in (5, 60):
        driver = subprocess.Popen(command)
        until(lambda target=target, driver=driver: chains() >= target or driver.poll() is not None)  # type: ignore[misc]
        assert driver.poll() is None, "the run ended before it could be killed"
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    subprocess.run(command, check=True)
    assert essence(Recording(folder).tree) == essence(here)
    in_flight = 2 * 2 * CONCURRENCY  # of two drivers, each with two workers
    assert repeated(server.lines()[before:]) <= in_flight * max(c.steps for c in here.chains.values())
    made = len(server.lines())
    assert essence(write(settings(folder, None), pair(server.port), CONTENDERS, PROBLEMS)) == essence(here)
    assert len(server.lines()) == made, "what workers recorded was generated again in one process"
