"""What the evaluation adds to a summary: the oracle in its units, and paired differences."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from scripts.evaluate import check_compared, chosen, differences, oracle, settings_of
from scripts.program import CONFIGS
from stepwise import load_router
from stepwise.errors import ConfigError
from stepwise.evaluation.summary import Point, Summary


def point(router: str, cost: float, accuracy: float) -> Point:
    nowhere = (accuracy, accuracy), (cost, cost)
    return Point(router, None, accuracy, nowhere[0], cost, nowhere[1], tokens={}, wall_s=1.0)


SUMMARY = Summary(
    dataset="sums",
    pair="world",
    cost_unit="FLOPs",
    n=200,
    seed=0,
    models=["small", "middle", "large"],
    large_cost=200.0,
    points=[point("small", 20.0, 0.4), point("large", 200.0, 0.9), point("ppo", 90.0, 0.8)],
    metrics={},
)


def test_the_oracle_is_measured_between_small_and_large(tmp_path: Path) -> None:
    file = tmp_path / "summary.json"
    search = {"n": 10, "complete": 9, "cost": [0.1, 0.2, 0.4], "accuracy": [0.4, 0.7, 0.9]}
    file.write_text(json.dumps(search))
    drawn = oracle(str(file), SUMMARY)
    assert drawn.cost == [0.1, 0.2, 0.4] and drawn.complete == 9
    assert drawn.cpt50 == pytest.approx(0.1 + 0.1 * 0.25 / 0.3)
    area = 0.1 * (0.4 + 0.7) / 2 + 0.2 * (0.7 + 0.9) / 2 + 0.6 * 0.9
    assert drawn.apgr == pytest.approx((area / 0.9 - 0.4) / 0.5)
    with pytest.raises(ConfigError, match=r"make it with `python -m scripts\.oracle`"):
        oracle(str(tmp_path / "none.json"), SUMMARY)


def test_differences_leave_out_single_points_and_the_compared_themselves() -> None:
    rng = np.random.default_rng(0)
    cost = np.tile([[20.0], [90.0], [200.0]], 200)
    right = np.stack([rng.random(200) < accuracy for accuracy in (0.4, 0.8, 0.9)])
    worse = np.stack([right[0], right[0], right[2]])
    runs = {
        "small": (right[:1], cost[:1]), "large": (right[2:], cost[2:]), "ppo": (right, cost),
        "ppo_seed1": (right, cost), "random": (worse, cost),
    }  # fmt: skip
    cfg = OmegaConf.create({"compare": ["ppo", "ppo_seed1"], "budgets": [0.45], "seed": 0})
    lines = differences("ppo", runs, "small", "large", cfg)
    assert {line.to for line in lines} == {"random"}
    assert [line.quantity for line in lines] == ["accuracy at 45% of large-only cost", "APGR"]
    assert all((line.difference or 0) > 0 and (line.ci[0] or 0) > 0 for line in lines)
    assert differences("missing", runs, "small", "large", cfg) == []


def group(values: Any, **named: str) -> Any:
    """A file of ``configs/router``."""
    rule = {"_target_": "stepwise.routers.ThresholdRouter", "_partial_": True, "name": "confidence"}
    scorer = {"_target_": "stepwise.routers.Confidence", "of": "min"}
    whole = OmegaConf.create({"router": {**rule, "scorer": scorer, **named}, "knob": "threshold"})
    whole["values"] = values
    return whole


def test_two_routers_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="two are named 'confidence'; give each a name of its own"):
        settings_of([group([0.5]), group([60.0])])
    assert len(settings_of([group([0.5]), group([60.0], name="length")])) == 2


@pytest.mark.parametrize("values", [25, "0.5", None])
def test_values_must_be_a_list(values: Any) -> None:
    with pytest.raises(ConfigError, match=r"values must be a list of thresholds, not"):
        settings_of([group(values)])


def test_a_comparison_with_no_router_of_that_name_is_refused_before_the_run() -> None:
    field = settings_of([group([0.5])])
    with pytest.raises(
        ConfigError, match="compare: 'confidenc' is no router's name here; they are confidence"
    ):
        check_compared(["confidenc"], field)
    check_compared(["ppo", "confidence"], field)


def test_only_some_routers_run_beside_the_two_ends() -> None:
    routers = {name: name for name in ("small", "large", "random", "confidence", "mine")}
    assert chosen(routers, ["mine", "confidence"]) == ["small", "large", "confidence", "mine"]
    assert chosen(routers, []) == ["small", "large"]
    assert chosen(routers, None) == [*routers]
    with pytest.raises(ConfigError, match="only: 'min' is no router here; they are confidence, large, mine"):
        chosen(routers, ["min"])


def test_a_policy_is_evaluated_where_its_own_decisions_change_unless_others_are_given(tmp_path: Path) -> None:
    shipped = load_router("nano-ppo", threshold=1.0).artifact
    group: Any = OmegaConf.load(CONFIGS / "router" / "ppo.yaml")
    assert [contender.threshold for contender in settings_of([group])] == shipped.card["thresholds"]
    group.router.name = str(tmp_path)

    def tried(given: list[float] | None = None, **changes: Any) -> list[float | None]:
        replace(shipped, **changes).save(tmp_path)
        group["values"] = given
        return [contender.threshold for contender in settings_of([group])]

    assert tried(card={"thresholds": [0.1, 0.7]}) == [0.1, 0.7]
    assert tried(shipped.card["thresholds"], card={"thresholds": [0.1]}) == shipped.card["thresholds"]
    assert shipped.record and tried(card={"thresholds": None}) == shipped.record.thresholds.tolist()
    with pytest.raises(
        ConfigError, match="values must be a list of thresholds, not None, and this router has"
    ):
        tried(card={}, record=None)
