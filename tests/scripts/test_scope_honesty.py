"""The study of SCOPE's promises, on the made-up world of `test_scope_zeroeval`."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np

from scripts.scope.honesty import budgets, domains, novelty
from scripts.scope.records import load
from tests.scripts.test_scope_zeroeval import ABILITIES, configured, records
from tests.stepwise.scope import worlds

__all__ = ["records"]


def test_promises_are_measured_on_the_questions_that_are_left(records: Path) -> None:
    pool = "[" + ",".join(list(ABILITIES)[::4]) + "]"
    changes = {"+study.shares": "[0.0001,0.6,50]", "+study.delta": 0.1, "+study.pool": pool}
    settings = configured(records, **changes).study
    kept = budgets(load(settings, "sums"), settings)
    assert kept["0.0001"]["promised"] == {"refused": 1.0} == kept["0.0001"]["in sample"]
    assert kept["50"]["promised"]["broken"] == 0.0 == kept["50"]["promised"]["broken elsewhere"]
    assert kept["50"]["promised"]["most"] < 0.1
    assert kept["0.6"]["promised"]["spent"] <= kept["0.6"]["in sample"]["spent"]


def test_other_questions_are_told_from_the_sets_own(records: Path) -> None:
    settings = configured(records).study
    elsewhere = ["Who wrote this poem?", "Name the capital of a country.", "Why do leaves turn red?"]
    found = novelty(load(settings, "sums"), elsewhere, settings)
    assert found["auc"][0] > 0.9 and found["called outside, other"][0] == 1.0
    assert found["called outside, own"][0] < 0.2


def test_estimators_are_compared_on_several_domains(records: Path) -> None:
    file, random = records / "domains.jsonl.gz", np.random.default_rng(0)
    with gzip.open(file, "wt") as lines:
        for problem in worlds.problems(200):
            scores = {
                model: float(random.random() < worlds.chance(model, problem)) for model in worlds.ABILITY
            }
            lines.write(json.dumps({"question": problem.question, "scores": scores}) + "\n")
    changes = {"+study.domains": file, "+study.test_count": 100}
    areas = domains(configured(records, **changes).study)
    assert set(areas) == {"mean", "neighbours", "difficulty", "ridge", "combined"}
    assert 0.6 < areas["mean"] < areas["combined"]
