"""The audit finds no fault in the accounts, and every fault that is put into them."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import msgspec
import pytest

from scripts.checks.audit import (
    Charged,
    ServerCall,
    disagreements,
    miscounted,
    read,
    record,
    relative_error,
)
from stepwise.types import Usage

Books = tuple[list[ServerCall], list[Charged]]


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Books:
    folder: Path = tmp_path_factory.mktemp("audit")
    asyncio.run(record(folder, 60, random.Random(7)))
    return read(folder / "usage.jsonl", ServerCall), read(folder / "charged.jsonl", Charged)


def test_what_is_charged_is_what_the_servers_counted(books: Books) -> None:
    assert disagreements(*books) == [] and relative_error(*books) == 0.0


def test_the_runs_had_every_kind_of_account(books: Books) -> None:
    calls, charged = books
    assert {call.model for call in calls} == {"small", "large", "judge"}
    assert any(call.cached for call in calls)
    assert any(usage.discarded for chain in charged for usage in chain.usage.values())


def test_every_miscount_is_noticed(books: Books) -> None:
    calls, charged = books
    rng = random.Random(1)
    assert all(disagreements(miscounted(calls, rng), charged) for _ in range(100))


def test_a_wrong_charge_is_named(books: Books) -> None:
    calls, charged = books
    chain = charged[0]
    name, usage = next(iter(chain.usage.items()))
    wrong = msgspec.structs.replace(chain, usage={**chain.usage, name: usage + Usage(prompt=1)})
    (sentence,) = disagreements(calls, [wrong, *charged[1:]])
    assert sentence.startswith(f"chain {chain.chain}, {name}: the server counted ({usage.prompt}, ")


def test_models_that_run_ahead_are_charged_what_the_servers_counted(tmp_path: Path) -> None:
    """What a model wrote beyond a step earns its credit where another model went on the same way."""
    asyncio.run(record(tmp_path, 40, random.Random(3), lookahead=True))
    calls, charged = read(tmp_path / "usage.jsonl", ServerCall), read(tmp_path / "charged.jsonl", Charged)
    assert any(usage.discarded for chain in charged for usage in chain.usage.values())
    assert disagreements(calls, charged) == []
