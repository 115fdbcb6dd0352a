"""Money and the moving threshold: on target while traffic drifts, and not forgotten."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwise.calibration import OnlineThreshold
from stepwise.cli.serve import RATE
from stepwise.errors import ConfigError
from stepwise.gateway import spending as module
from stepwise.gateway.failures import Refusal
from stepwise.gateway.keys import Tenant
from stepwise.gateway.spending import Spending
from stepwise.gateway.state import held
from tests.records import spread_record

ALICE = Tenant("alice", "0", spend=10.0)


def online(target: float = 0.4) -> OnlineThreshold:
    return OnlineThreshold(spread_record(500), target, rate=RATE)


def test_spend_stays_on_target_while_traffic_drifts() -> None:
    """Problems become three times as long, and routing them twice as dear in relation to large-only."""
    random, moving = np.random.default_rng(0), online()
    spending, record = Spending(moving), spread_record(500)
    spent = alone = 0.0
    for i in range(6000):
        late = i >= 3000
        large = random.uniform(0.5, 1.5) * (3e9 if late else 1e9)
        share = np.interp(moving.threshold, record.thresholds, record.cost_share) * (2.0 if late else 1.0)
        cost = float(min(share, 1.0) * large)
        spending.learn(cost, large)
        if i >= 4000:
            spent, alone = spent + cost, alone + large
    assert spent / alone == pytest.approx(0.4, abs=0.02)


def test_it_goes_on_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state.json"
    first = Spending(online(), path)
    for cost in (3.0, 0.1, 2.0):
        first.learn(cost, 4.0)
    first.charge(ALICE, 12.0)
    first.save()
    moved, second = online(), Spending(moving := online(), path)
    assert first.online is not None
    assert moving.state() == first.online.state() != moved.state()
    with pytest.raises(Refusal, match="spent its limit of 10"):
        second.check(ALICE)
    first.learn(1.0, 8.0)
    second.learn(1.0, 8.0)
    assert moving.state() == first.online.state(), "the mean cost of large-only is remembered too"


def test_another_target_begins_anew(tmp_path: Path) -> None:
    first = Spending(online(0.4), tmp_path / "state.json")
    first.learn(5.0, 4.0)
    first.save()
    Spending(moving := online(0.5), tmp_path / "state.json")
    assert moving.state() == online(0.5).state()


def test_another_policy_begins_anew(tmp_path: Path) -> None:
    """A position among one policy's thresholds means nothing among another's."""
    first = Spending(online(), tmp_path / "state.json")
    first.learn(5.0, 4.0)
    first.save()
    other = OnlineThreshold(spread_record(400, seed=3), 0.4, rate=RATE)
    begun = other.state()
    Spending(other, tmp_path / "state.json")
    assert other.state() == begun


def test_a_new_day_is_a_new_account(monkeypatch: pytest.MonkeyPatch) -> None:
    spending = Spending()
    spending.charge(ALICE, 12.0)
    with pytest.raises(Refusal):
        spending.check(ALICE)
    monkeypatch.setattr(module, "_today", lambda: "2100-01-01")
    spending.check(ALICE)


def kept(**changes: Any) -> str:
    """A state file's text."""
    good = {"schema": 1, "unit": "FLOPs", "day": "2030-01-31", "spent": {"alice": 3.0}, "online": None}
    return json.dumps({**good, "alone": 0.0, "seen": 0, **changes})


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        "{}",
        "\x00" * 100,
        json.dumps({"day": 1, "spent": 3, "online": None}),
        kept(day="tomorrow"),
        kept(spent={"alice": -1.0}),
        kept(spent={"alice": float("nan")}),
        kept(spent={"alice": float("inf")}),
        kept(spent={"alice": "3"}),
        kept(seen=1.5),
        kept(online={"target": 0.4, "position": float("nan"), "count": 3}),
        kept(online={"target": 0.4, "position": 7.0, "count": 3}),
        kept(schema=2),
    ],
)
def test_a_damaged_state_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match="delete it to start over"):
        Spending(online(), path)


def test_costs_of_another_unit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text(kept())
    Spending(path=path, unit="FLOPs")
    with pytest.raises(ConfigError, match=r"counts in FLOPs, this server in \$"):
        Spending(path=path, unit="$")


def test_a_state_belongs_to_one_server(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    with held(path), pytest.raises(ConfigError, match="belongs to a server that runs"), held(path):
        pass
    with held(path):
        pass


def test_a_clock_that_is_set_back_gives_no_second_account(monkeypatch: pytest.MonkeyPatch) -> None:
    spending = Spending()
    for day, refused in (
        ("2100-01-02", False),  # ALICE spends
        ("2100-01-02", True),
        ("2100-01-01", True),
        ("2100-01-02", True),
        ("2099-06-01", True),  # the day before was a mistake: the account goes on, and ends with the new day
        ("2099-06-02", False),
    ):
        monkeypatch.setattr(module, "_today", lambda day=day: day)
        if refused:
            with pytest.raises(Refusal):
                spending.check(ALICE)
        else:
            spending.check(ALICE)
            spending.charge(ALICE, 12.0)


async def test_what_is_spent_is_written_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAVE_EVERY", 0.001)
    path = tmp_path / "state.json"
    spending = Spending(path=path)
    saving = asyncio.create_task(spending.keep_saved())
    spending.charge(ALICE, 1.0)
    spending.charge(ALICE, 2.0)
    async with asyncio.timeout(10):
        while json.loads(path.read_text())["spent"] != {"alice": 3.0}:
            await asyncio.sleep(0)
    saving.cancel()


amounts = st.lists(st.floats(0, 10), min_size=1, max_size=4)


@given(st.lists(st.tuples(amounts, amounts, st.booleans()), max_size=20))
def test_nothing_stays_reserved(requests: list[tuple[list[float], list[float], bool]]) -> None:
    """Whether chains ran, were refused or never had their turn."""
    spending, open_ones, spent = Spending(), [], 0.0
    tenant = Tenant("alice", "0", spend=1e6)
    for least, costs, early in requests:
        reservation = spending.reserve(tenant, least)
        for chain, cost in enumerate(costs[: len(least)]):
            reservation.settle(chain, cost)
            spent += cost
        if early:
            reservation.release()
        open_ones.append(reservation)
    for reservation in open_ones:
        reservation.release()
        reservation.release()
    assert spending._reserved["alice"] == pytest.approx(0.0, abs=1e-6)
    assert spending._spent["alice"] == pytest.approx(spent)


def test_a_burst_is_refused_when_what_it_will_cost_reaches_the_limit() -> None:
    spending = Spending()
    spending.charge(ALICE, 3.0)  # what ALICE's chains cost
    reserved = [spending.reserve(ALICE, [0.1]) for _ in range(3)]
    with pytest.raises(Refusal, match="or chains that run will"):
        spending.reserve(ALICE, [0.1])
    reserved[0].release()
    with pytest.raises(Refusal):
        spending.reserve(ALICE, [0.1, 0.1])
    spending.reserve(ALICE, [0.1])


def test_a_state_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="state: .* cannot be"):
        Spending(path=tmp_path / "file" / "state.json")


def test_a_chain_that_cost_nothing_alone_teaches_nothing() -> None:
    moving: Any = online()
    Spending(moving).learn(0.0, 0.0)
    assert moving.count == 0
