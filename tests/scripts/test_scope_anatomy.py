"""The anatomy of SCOPE on the made-up world of `test_scope_zeroeval`: every part gives what it says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from omegaconf import DictConfig, open_dict

from scripts.scope import anatomy
from scripts.scope.few_shot import Case, figures
from scripts.scope.parts import PARTS, Ground
from scripts.scope.records import load
from stepwise.scope.prompt import write
from tests.scripts.test_scope_zeroeval import configured, records

__all__ = ["records"]
DIALS = {"sizes": [25, 40], "neighbours": [1, 5], "weights": [0.0, 0.5], "alphas": [0.0, 1.0]}


def settings_of(records: Path) -> DictConfig:
    cfg = configured(records)
    with open_dict(cfg):
        cfg.study.update(
            {**DIALS, "test_count": 60, "only": None, "anatomy": ["sums"], "pools": {}, "splits": 2}
        )
    return cfg


@pytest.fixture
def ground(records: Path) -> Ground:
    settings = settings_of(records).study
    data = load(settings, "sums")
    order = np.random.default_rng(0).permutation(len(data.problems)).tolist()
    return Ground(data, order, settings, [i for i, price in enumerate(data.prices) if price])


def test_dials_are_measured_on_questions_that_are_no_anchors(ground: Ground) -> None:
    sizes, neighbours = PARTS["sizes"](ground), PARTS["neighbours"](ground)
    assert {key.split(",")[0] for key in sizes} == {"25", "40"}
    assert {key.split(",")[0] for key in neighbours} == {"1", "5"}
    assert all(0.4 < value <= 1 for value in (*sizes.values(), *neighbours.values()))


def test_rivals_lie_between_a_random_mix_and_the_oracle(ground: Ground) -> None:
    areas = {k.removesuffix(", area"): v for k, v in PARTS["rivals"](ground).items() if k.endswith(", area")}
    assert areas["oracle"] == max(areas.values())
    assert areas["SCOPE"] > areas["random mix of the cheapest and the best"]
    assert {"kNN", "SVM", "matrix factorisation", "two models"} <= areas.keys()


def test_a_portfolio_is_shared_out_and_the_cheapest_answers_all_at_alpha_0(ground: Ground) -> None:
    shares = PARTS["portfolio"](ground)
    for alpha in ("0", "1"):
        own = [v for k, v in shares.items() if k.startswith(f"{alpha}, ") and not k.endswith("in use")]
        assert sum(own) == pytest.approx(1.0)
    assert shares["0, models in use"] <= shares["1, models in use"] + 1e-9


def test_a_killed_study_goes_on_from_its_pieces(records: Path, tmp_path: Path) -> None:
    cfg = settings_of(records)
    cfg.study.only, cfg.output = ["ranking", "neighbours"], str(tmp_path)
    anatomy.study(cfg)
    pieces = sorted((tmp_path / "pieces").iterdir())
    assert len(pieces) == 4 and (tmp_path / "anatomy.png").stat().st_size > 10_000
    first = json.loads((tmp_path / "summary.json").read_text())["sets"]["sums"]["ranking"]
    pieces[-1].unlink()
    anatomy.study(cfg)
    assert json.loads((tmp_path / "summary.json").read_text())["sets"]["sums"]["ranking"] == first
    assert "| the right one of two preferred |" in (tmp_path / "tables.md").read_text()


def test_a_sample_that_does_not_parse_counts_as_wrong() -> None:
    cases = [Case("m", "1?", "a", True, 10, 0.9, 0.4), Case("m", "2?", "b", True, 10, 0.9, 0.4)]
    about = {"finish": "end", "prompt_tokens": 5, "completion_tokens": 7, "seconds": 1.0}
    answers = {"a": {"text": write("easy", True, 12), **about}, "b": {"text": "It is easy.", **about}}
    shown = figures(cases, answers, seed=0)
    assert shown["format"][0] == shown["accuracy"][0] == 0.5 and shown["token error"][0] == 2
    assert shown["accuracy, statistical"][0] == 1.0 and shown["accuracy, mean"][0] == 0.0
