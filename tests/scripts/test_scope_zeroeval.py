"""The study of recorded models, on a made-up world whose truth is known."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from scripts.evaluate import Evaluate
from scripts.scope.records import load
from scripts.scope.zeroeval import study
from stepwise.errors import ConfigError
from tests.stepwise.scope import worlds

ROOT = Path(__file__).resolve().parents[2]
ABILITIES = {f"m{i}": -2.0 + 0.5 * i for i in range(9)}
QUESTIONS = 160
ONE = {"study.splits": 1}


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """Nine models that cost more the better they are; sums are harder the longer they are."""
    random, problems = np.random.default_rng(1), worlds.problems(QUESTIONS)
    rows = [{"id": p.id, "question": p.question, "answer": p.answer} for p in problems]
    folder = tmp_path / "data" / "zeroeval"
    folder.mkdir(parents=True)
    with gzip.open(folder / "sums_questions.jsonl.gz", "wt") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))
    hard = np.array([worlds.difficulty(problem) for problem in problems])
    ability = np.array(list(ABILITIES.values()))
    right = random.random((QUESTIONS, 9)) < 1 / (1 + np.exp(-3 * (ability - hard[:, None])))
    head = ",".join(["id", *ABILITIES])
    for name, table in (
        ("correct", right),
        ("est_tokens", (60 + 20 * hard[:, None] + 0 * right).astype(int)),
    ):
        lines = [",".join([p.id, *map(str, values)]) for p, values in zip(problems, table, strict=True)]
        (folder / f"sums_{name}.csv").write_text("\n".join([head, *lines]) + "\n")
    return tmp_path


def configured(folder: Path, **changes: Any) -> DictConfig:
    prices = ",".join(f"{name}:[{0.1 * 2**i},{0.4 * 2**i}]" for i, name in enumerate(ABILITIES))
    settings = [
        "experiment=scope_zeroeval", f"study.data={folder / 'data'}", f"output={folder / 'out'}",
        "study.splits=2",
        "study.anchor_count=80", "~study.sets.math-l5", "~study.sets.gsm",
        "+study.sets.sums={auxiliary:[]}",
        f"++study.prices={{{prices}}}", *(f"{name}={value}" for name, value in changes.items()),
    ]  # fmt: skip
    with initialize_config_dir(str(ROOT / "configs"), version_base=None):
        cfg = compose("evaluate", settings)
    assert OmegaConf.get_type(cfg) is Evaluate
    return cfg


def test_estimators_are_ordered_by_what_they_know(records: Path) -> None:
    cfg = configured(records)
    study(cfg)
    summary = json.loads((records / "out" / "summary.json").read_text())
    sums = summary["sets"]["sums"]
    auc = {name: scores["all"]["auc"][0] for name, scores in sums["estimators"].items()}
    assert auc["mean"] < auc["neighbours"] < auc["true_difficulty"] and auc["mean"] < auc["difficulty"]
    assert sums["estimators"]["true_difficulty"]["all"]["accuracy"][0] > 0.8
    for routed in sums["routing"]["splits"]:
        assert routed["best_single"]["accuracy"] <= routed["oracle"]["accuracy"]
        assert routed["oracle"]["cost"] < routed["best_single"]["cost"]
        assert 0 < routed["chosen_on_anchors"]["cost"] <= max(cost for cost, _ in routed["models"].values())
    kept = sorted((records / "out" / "splits").iterdir())
    written = [file.stat().st_mtime_ns for file in kept]
    study(cfg)
    assert len(kept) == 2 and [file.stat().st_mtime_ns for file in kept] == written, "no split is made twice"
    assert json.loads((records / "out" / "summary.json").read_text())["sets"] == summary["sets"]


def test_outcomes_of_the_left_out_on_the_test_questions_are_not_used(records: Path) -> None:
    """Turning them all round changes no prediction; the scores turn round with them."""
    study(configured(records, **ONE))
    (first,) = (records / "out" / "splits").iterdir()
    before = json.loads(first.read_text())["scored"]
    data = load(configured(records).study, "sums")
    left_out = {data.models[int(row)] for row in before["combined"]["model"]}
    asked = {data.problems[int(i)].id for i in before["combined"]["question"]}
    file = records / "data" / "zeroeval" / "sums_correct.csv"
    head, *rows = [line.split(",") for line in file.read_text().splitlines()]
    turned = {"True": "False", "False": "True"}
    for row in rows:
        for i, model in enumerate(head[1:], 1):
            if model in left_out and row[0] in asked:
                row[i] = turned[row[i]]
    file.write_text("\n".join(map(",".join, [head, *rows])) + "\n")
    study(configured(records, output=records / "turned", **ONE))
    (again,) = (records / "turned" / "splits").iterdir()
    after = json.loads(again.read_text())["scored"]
    for name in ("mean", "neighbours", "difficulty", "combined"):
        assert after[name]["p"] == before[name]["p"]
        assert after[name]["y"] == [1 - value for value in before[name]["y"]]


def test_a_missing_table_is_named(records: Path) -> None:
    (records / "data" / "zeroeval" / "sums_correct.csv").unlink()
    with pytest.raises(ConfigError, match=r"data: .*sums_correct.csv cannot be read .*set data=FOLDER"):
        load(configured(records).study, "sums")
