"""Money and the moving threshold: on target while traffic drifts, and not forgotten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stepwise.calibration import OnlineThreshold
from stepwise.cli.serve import RATE
from stepwise.errors import ConfigError
from stepwise.gateway import spending as module
from stepwise.gateway.failures import Refusal
from stepwise.gateway.keys import Tenant
from stepwise.gateway.spending import Spending
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


def test_a_new_day_is_a_new_account(monkeypatch: pytest.MonkeyPatch) -> None:
    spending = Spending()
    spending.charge(ALICE, 12.0)
    with pytest.raises(Refusal):
        spending.check(ALICE)
    monkeypatch.setattr(module, "_today", lambda: "2100-01-01")
    spending.check(ALICE)


@pytest.mark.parametrize("content", ["{", "[]", "{}", json.dumps({"day": 1, "spent": 3, "online": None})])
def test_a_damaged_state_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match="delete it to start over"):
        Spending(online(), path)


def test_a_state_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="state: .* cannot be"):
        Spending(path=tmp_path / "file" / "state.json")


def test_a_chain_that_cost_nothing_alone_teaches_nothing() -> None:
    moving: Any = online()
    Spending(moving).learn(0.0, 0.0)
    assert moving.count == 0
