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
from scripts.checks.real_servers import Exchange, RealServer, credited, llama_counts, vllm_counts
from stepwise.errors import ConfigError
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


def test_a_real_servers_counts_are_read_from_its_answers_and_credited_by_chain() -> None:
    begun = {"tokens_evaluated": 3, "timings": {"prompt_n": 1}}
    llama = [
        {**begun, "tokens": [7], "stop": False, "tokens_predicted": 1},
        {**begun, "tokens": [], "stop": True, "tokens_predicted": 2},
    ]
    assert llama_counts(llama) == ([7], Usage(3, 2, 2), True)
    assert llama_counts(llama[:1]) == ([7], Usage(3, 2, 1), False)
    choices = [{"token_ids": [7, 8]}]
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}
    assert vllm_counts(3, [{"choices": choices, "usage": usage}]) == ([7, 8], Usage(3, 1, 2), True)
    assert vllm_counts(3, [{"choices": choices}]) == ([7, 8], Usage(3, 0, 2), False)
    calls = [
        Exchange("a", "m", [1, 2, 3], [7, 8], 3, 2, 2, counted=True),  # cached for another chain
        Exchange("a", "m", [1, 2, 3, 7, 8], [9], 5, 4, 1, counted=False),
        Exchange("a", "other", [1, 2, 3], [7], 3, 2, 1, counted=True),
        Exchange("a", "m", [1, 2, 3, 7, 8, 9], [4], 6, 6, 1, counted=True),
    ]
    assert [usage.cached for usage in credited(calls)] == [0, 4, 0, 6]


def test_a_server_that_cannot_be_audited_is_refused() -> None:
    with pytest.raises(ConfigError, match="backend must be one of"):
        RealServer("chat", "http://127.0.0.1:1/v1", "")
    with pytest.raises(ConfigError, match="lists no models"):
        RealServer("vllm-server", "http://127.0.0.1:1/v1", "")
