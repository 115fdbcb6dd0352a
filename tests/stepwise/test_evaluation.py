"""A comparison of routers: its rows, its resume, its summary."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stepwise.cost import Tokens
from stepwise.demo import telling, write
from stepwise.engine import Engine
from stepwise.errors import BackendError, ConfigError
from stepwise.evaluation import Contender, Row, evaluate, read_rows, summarise
from stepwise.routers import Always, Confidence, Random, ThresholdRouter
from tests.worlds import engine, problem

PROBLEMS = [problem(n % 3 + 1, n % 10, n // 10, 2) for n in range(40)]
FIELD = [
    Contender(Always("small")),
    Contender(Always("large")),
    *(Contender(Random(p), p) for p in (0.2, 0.5)),
    *(Contender(ThresholdRouter(Confidence("min"), t, "confidence"), t) for t in (0.5, 2.0)),
]


def run(path: Path, world: Engine) -> list[Row]:
    return world.run(evaluate(world, PROBLEMS, FIELD, path))


def stable(rows: list[Row]) -> list[Row]:
    """Rows without their timing, in a fixed order."""
    kept = [{k: v for k, v in row.items() if k != "wall_s"} for row in rows]
    return sorted(kept, key=lambda row: (row["router"], str(row["threshold"]), row["problem"]))


def test_every_problem_meets_every_router_and_the_rows_say_what_happened(tmp_path: Path) -> None:
    rows = run(tmp_path / "rows.jsonl", engine())
    assert len(rows) == len(PROBLEMS) * len(FIELD)
    assert all(row["correct"] for row in rows if row["router"] in ("large",))
    assert all(row["cost"] == pytest.approx(sum(step["cost"] for step in row["steps"])) for row in rows)
    assert read_rows(tmp_path / "rows.jsonl") == rows


@pytest.mark.parametrize("keep", [0, 1, 57, 120])
def test_a_killed_run_loses_and_repeats_nothing(tmp_path: Path, keep: int) -> None:
    whole = run(tmp_path / "whole.jsonl", engine())
    lines = (tmp_path / "whole.jsonl").read_text().splitlines(keepends=True)
    torn = tmp_path / "torn.jsonl"
    torn.write_text("".join(lines[:keep]) + lines[keep][:25])
    world = engine()
    resumed = run(torn, world)
    assert stable(resumed) == stable(whole)
    assert stable(read_rows(torn)) == stable(whole)
    assert resumed[:keep] == whole[:keep]


def test_rows_of_another_setting_are_kept_in_the_file_but_not_used(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    first = run(path, engine())
    other = engine().run(evaluate(engine(), PROBLEMS, FIELD, path, setting="other models"))
    assert len(other) == len(first) and len(read_rows(path)) == 2 * len(first)
    in_tokens = engine(cost=Tokens())
    assert run(path, in_tokens)[0]["cost"] != first[0]["cost"]


def test_a_row_with_an_error_is_tried_again(tmp_path: Path) -> None:
    world = engine()

    async def fail(_: str) -> None:
        raise BackendError("gone")

    world.backends["large"]._before = fail  # type: ignore[attr-defined]
    broken = run(tmp_path / "rows.jsonl", world)
    assert sum(row["error"] is not None for row in broken) > len(PROBLEMS)
    assert not any(row["correct"] for row in broken if row["error"])
    repaired = run(tmp_path / "rows.jsonl", engine())
    assert len(repaired) == len(PROBLEMS) * len(FIELD) and all(row["error"] is None for row in repaired)


def test_names_that_occur_twice_are_refused(tmp_path: Path) -> None:
    for problems, field in ((PROBLEMS[:1] * 2, FIELD), (PROBLEMS, FIELD[:1] * 2)):
        with pytest.raises(ConfigError, match="occurs twice"):
            engine().run(evaluate(engine(), problems, field, tmp_path / "rows.jsonl"))


def test_the_summary_has_what_readers_rely_on(tmp_path: Path) -> None:
    rows = run(tmp_path / "rows.jsonl", engine())
    about = {
        "dataset": "sums",
        "pair": "world",
        "cost_unit": "FLOPs",
        "versions": {},
        "command": "",
        "machine": "",
    }
    summary = summarise(rows, PROBLEMS, models=("small", "large"), seed=0, about=about)
    assert {"dataset", "pair", "n", "seed", "cost_unit", "points", "metrics"} <= set(summary)
    for point in summary["points"]:
        expected = {"router", "threshold", "accuracy", "accuracy_ci", "cost", "cost_ci", "tokens", "wall_s"}
        assert expected <= set(point)
        assert point["accuracy_ci"][0] <= point["accuracy"] <= point["accuracy_ci"][1]
        for usage in point["tokens"].values():
            assert set(usage) == {"prompt", "cached", "completion", "discarded"}
    metrics = summary["metrics"]["confidence"]
    assert {"apgr", "apgr_ci", "cpt50", "cpt80", "cpt95", "aiq"} <= set(metrics)
    write(tmp_path, summary, rows)
    assert json.loads((tmp_path / "summary.json").read_text())["n"] == len(PROBLEMS)
    for name in ("frontier.png", "report.html"):
        assert (tmp_path / name).stat().st_size > 1000


def test_the_end_points_are_required(tmp_path: Path) -> None:
    rows = [row for row in run(tmp_path / "rows.jsonl", engine()) if row["router"] != "large"]
    with pytest.raises(ConfigError, match="routers must include 'small' and 'large'"):
        summarise(rows, PROBLEMS, models=("small", "large"), seed=0, about={})


def test_an_unwritable_output_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="output: .* cannot be written"):
        run(tmp_path / "file" / "rows.jsonl", engine())


def test_traces_worth_reading_are_mixed(tmp_path: Path) -> None:
    rows = [{**row, "router": "ppo"} for row in run(tmp_path / "rows.jsonl", engine())]
    chosen = telling(rows)
    assert chosen and all(len({step["model"] for step in row["steps"]}) == 2 for row in chosen)
