"""A comparison of routers: its rows, its resume, its summary."""

from __future__ import annotations

import asyncio
import importlib
import io
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs
from rich.console import Console

from stepwise import report
from stepwise.backends.scripted import ScriptedBackend
from stepwise.engine.cost import Flops, Tokens
from stepwise.engine.engine import Engine
from stepwise.engine.stop_rules import StepRule
from stepwise.errors import BackendError, ConfigError, RouterError
from stepwise.evaluation.grader import Grader
from stepwise.evaluation.progress import compare
from stepwise.evaluation.row_file import RowFile
from stepwise.evaluation.rows import Row, read_rows
from stepwise.evaluation.run import Contender, evaluate
from stepwise.evaluation.summary import summarise
from stepwise.routers import Always, Confidence, FirstTokenEntropy, Random, ThresholdRouter
from stepwise.types import Problem
from stepwise.verify import symbolic
from tests.stalls import largest_gap
from tests.worlds import engine, problem

PROBLEMS = [problem(n % 3 + 1, n % 10, n // 10, 2) for n in range(40)]
ABOUT = {"dataset": "sums", "pair": "world", "cost_unit": "FLOPs"}
FIELD = [
    Contender(Always("small")),
    Contender(Always("large")),
    *(Contender(Random(p), p) for p in (0.2, 0.5)),
    *(Contender(ThresholdRouter(Confidence("min"), t, "confidence"), t) for t in (0.5, 2.0)),
]


def run(path: Path, world: Engine) -> Sequence[Row]:
    return world.run(evaluate(world, PROBLEMS, FIELD, path))


def stable(rows: Sequence[Row]) -> list[Row]:
    """Rows without their timing, in a fixed order."""
    kept = [structs.replace(row, wall_s=0.0) for row in rows]
    return sorted(kept, key=lambda row: (row.router, str(row.threshold), row.problem))


def test_every_problem_meets_every_router_and_the_rows_say_what_happened(tmp_path: Path) -> None:
    rows = run(tmp_path / "rows.jsonl", engine())
    assert len(rows) == len(PROBLEMS) * len(FIELD)
    assert all(row.correct for row in rows if row.router in ("large",))
    assert all(row.cost == pytest.approx(sum(step.cost for step in row.steps)) for row in rows)
    assert read_rows(tmp_path / "rows.jsonl") == rows


def test_a_run_that_goes_on_says_what_it_found(tmp_path: Path) -> None:
    def said(problems: Sequence[Problem]) -> str:
        shown = io.StringIO()
        console = Console(file=shown, width=400)
        compare(engine(), problems, FIELD, tmp_path, setting="", console=console)
        return shown.getvalue()

    assert "are solved" not in said(PROBLEMS[:10])
    assert f"{tmp_path / 'rows.jsonl'}: 60 of 240 chains are solved, 180 are left." in said(PROBLEMS)
    assert "240 of 240 chains are solved, none is left." in said(PROBLEMS)


def test_rows_stay_in_their_file(tmp_path: Path) -> None:
    """What a run keeps in memory does not grow with what its chains wrote."""
    path = tmp_path / "rows.jsonl"
    path.write_text("no row\n")
    rows = run(path, engine())
    everything = read_rows(path)
    assert isinstance(rows, RowFile) and len(rows) == len(everything) == len(PROBLEMS) * len(FIELD)
    assert rows[3] == everything[3] and rows[-1] == everything[-1] and rows[2:5] == everything[2:5]
    assert not [value for value in vars(rows).values() if isinstance(value, list | dict)]


async def test_golds_in_latex_do_not_hold_up_the_event_loop(tmp_path: Path) -> None:
    """The first one starts a process of its own, which takes seconds."""
    for worker in symbolic._idle:
        worker.kill()
    model = ScriptedBackend(lambda text: f"The answer is ${text.strip()}+\\sqrt{{2}}$.")
    world = Engine({"m": model}, prompt="{question}\n", rule=StepRule(), cost=Tokens())
    problems = [
        Problem(str(i), rf"\frac{{{i}}}{{7}}", rf"\sqrt{{2}}+\frac{{{i}}}{{7}}") for i in range(1, 20)
    ]
    stop = asyncio.Event()
    watch, began = asyncio.create_task(largest_gap(stop)), time.perf_counter()
    rows = await evaluate(world, problems, [Contender(Always("m"))], tmp_path / "rows.jsonl")
    work = time.perf_counter() - began
    stop.set()
    assert len(rows) == 19 and all(row.correct for row in rows)
    assert await watch < work / 3


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
    assert run(path, in_tokens)[0].cost != first[0].cost


def test_a_router_of_ones_own_that_is_edited_runs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "from dataclasses import dataclass\n"
        "from stepwise.types import Decision\n\n\n"
        "@dataclass(frozen=True)\nclass Tilted:\n    name = 'tilted'\n    look = 'before'\n\n"
        "    def decide(self, trace):\n        return Decision('MODEL')\n"
    )

    def answers(model: str) -> float:
        folder = tmp_path / model  # of its own, lest bytecode of the same second be taken for it
        folder.mkdir()
        (folder / "tilted.py").write_text(code.replace("MODEL", model))
        monkeypatch.syspath_prepend(folder)
        sys.modules.pop("tilted", None)
        router = importlib.import_module("tilted").Tilted()
        world, field = engine(), [Contender(router)]
        rows = world.run(evaluate(world, PROBLEMS[:8], field, tmp_path / "rows.jsonl"))
        return sum(bool(row.correct) for row in rows) / len(rows)

    assert answers("large") == 1.0
    assert answers("small") < 1.0


def test_a_row_with_an_error_is_tried_again(tmp_path: Path) -> None:
    world = engine()

    async def fail(_: str) -> None:
        raise BackendError("gone")

    world.backends["large"]._before = fail  # type: ignore[attr-defined]
    broken = run(tmp_path / "rows.jsonl", world)
    assert sum(row.error is not None for row in broken) > len(PROBLEMS)
    assert not any(row.correct for row in broken if row.error)
    repaired = run(tmp_path / "rows.jsonl", engine())
    assert len(repaired) == len(PROBLEMS) * len(FIELD) and all(row.error is None for row in repaired)


def test_names_that_occur_twice_are_refused(tmp_path: Path) -> None:
    for problems, field in ((PROBLEMS[:1] * 2, FIELD), (PROBLEMS, FIELD[:1] * 2)):
        with pytest.raises(ConfigError, match="occurs twice"):
            engine().run(evaluate(engine(), problems, field, tmp_path / "rows.jsonl"))


def test_the_summary_has_what_readers_rely_on(tmp_path: Path) -> None:
    rows = run(tmp_path / "rows.jsonl", engine())
    summary = summarise(rows, PROBLEMS, models=("small", "large"), seed=0, about=ABOUT)
    report.write_run(tmp_path, summary, rows)
    written = json.loads((tmp_path / "summary.json").read_text())
    assert {"dataset", "pair", "n", "seed", "cost_unit", "points", "metrics"} <= set(written)
    assert written["n"] == len(PROBLEMS)
    for point in written["points"]:
        expected = {"router", "threshold", "accuracy", "accuracy_ci", "cost", "cost_ci", "tokens", "wall_s"}
        assert expected <= set(point)
        assert point["accuracy_ci"][0] <= point["accuracy"] <= point["accuracy_ci"][1]
        for usage in point["tokens"].values():
            assert set(usage) == {"prompt", "cached", "completion", "discarded"}
    assert {"apgr", "apgr_ci", "cpt50", "cpt80", "cpt95", "aiq"} <= set(written["metrics"]["confidence"])
    assert report.read_run(tmp_path) == (summary, rows)
    for name in ("frontier.png", "report.html"):
        assert (tmp_path / name).stat().st_size > 1000


def test_the_end_points_are_required(tmp_path: Path) -> None:
    rows = [row for row in run(tmp_path / "rows.jsonl", engine()) if row.router != "large"]
    with pytest.raises(ConfigError, match="routers must include 'small' and 'large'"):
        summarise(rows, PROBLEMS, models=("small", "large"), seed=0, about=ABOUT)


def test_an_unwritable_output_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="output: .* cannot be written"):
        run(tmp_path / "file" / "rows.jsonl", engine())


def test_the_parts_of_a_cost_add_up_and_name_what_was_rejected(tmp_path: Path) -> None:
    field = [*FIELD, Contender(ThresholdRouter(FirstTokenEntropy(), -1.0, "entropy"), -1.0)]
    rows = engine().run(evaluate(engine(), PROBLEMS, field, tmp_path / "rows.jsonl"))
    for row in rows:
        parts = sum(value for kinds in row.spent.values() for value in kinds.values())
        assert parts == pytest.approx(row.cost)
    kinds: dict[str, set[tuple[str, str]]] = {router: set() for router in ("small", "confidence", "entropy")}
    for row in rows:
        if row.router in kinds:
            kinds[row.router] |= {(model, kind) for model, of in row.spent.items() for kind in of}
    assert kinds["small"] == {("small", "generated"), ("small", "prefill")}
    assert ("small", "discarded") in kinds["confidence"] and ("large", "prefill") in kinds["confidence"]
    assert ("small", "probe") in kinds["entropy"] and ("small", "discarded") not in kinds["entropy"]


def test_several_chains_a_problem_are_averaged_and_resumed(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = list(engine().run(evaluate(engine(), PROBLEMS[:5], FIELD[:2], path, samples=3)))
    assert len(rows) == 5 * 2 * 3 and {row.sample for row in rows} == {0, 1, 2}
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:11]))
    again = engine().run(evaluate(engine(), PROBLEMS[:5], FIELD[:2], path, samples=3))
    assert stable(again) == stable(rows) and len(path.read_text().splitlines()) == 30
    rows = [structs.replace(row, correct=row.sample == 0) for row in rows]
    summary = summarise(rows, PROBLEMS[:5], models=("small", "large"), seed=0, about=ABOUT)
    assert summary.samples == 3
    assert [point.accuracy for point in summary.points] == pytest.approx([1 / 3, 1 / 3])


def test_a_point_is_broken_down_by_position_and_label(tmp_path: Path) -> None:
    problems = [replace(one, labels={"level": str(1 + i % 2)}) for i, one in enumerate(PROBLEMS)]
    rows = engine().run(evaluate(engine(), problems, FIELD, tmp_path / "rows.jsonl"))
    summary = summarise(rows, problems, models=("small", "large"), seed=0, about=ABOUT)
    for point in summary.points:
        steps = sum(
            len(row.steps) for row in rows if (row.router, row.threshold) == (point.router, point.threshold)
        )
        assert sum(sum(of) for of in point.positions.values()) == steps
        levels = point.breakdown["level"]
        assert [level.value for level in levels] == ["1", "2"] and [level.n for level in levels] == [
            20,
            20,
        ]
        assert point.accuracy == pytest.approx(sum(level.accuracy for level in levels) / 2)
    assert {level.large_share for level in summary.points[1].breakdown["level"]} == {1.0}
    assert sum(one.n for one in summary.reliability["small"]) == len(problems)


def grader(says: str) -> Grader:
    """A model that gives every answer one verdict."""
    backend = ScriptedBackend(lambda text: f"I compared them. Verdict: {says}", parameters=7)
    return Grader(
        Engine(
            {"judge": backend}, prompt="{question}\n", rule=StepRule("\n\n", 64, 4), cost=Flops({"judge": 7})
        )
    )


@pytest.mark.parametrize(("says", "correct"), [("yes", True), ("no", False), ("perhaps", False)])
def test_answers_that_rules_cannot_compare_are_graded_by_a_model(
    tmp_path: Path, says: str, correct: bool
) -> None:
    sentence = replace(PROBLEMS[0], answer="all of the numbers that were added together above")
    plain = replace(PROBLEMS[1], answer="999999")
    world, path = engine(), tmp_path / "rows.jsonl"
    work = evaluate(world, [sentence, plain], FIELD[:2], path, grader=grader(says))
    rows = {(row.problem, row.router): row for row in world.run(work)}
    graded = rows[sentence.id, "large"]
    assert graded.grading and graded.correct is correct and graded.grading.cost > 0
    assert graded.cost == pytest.approx(sum(step.cost for step in graded.steps))
    assert not rows[plain.id, "large"].grading and not rows[plain.id, "large"].correct
    assert (graded.grading.correct is None) == (says == "perhaps")
    summary = summarise(
        list(rows.values()), [sentence, plain], models=("small", "large"), seed=0, about=ABOUT
    )
    assert summary.grading_cost == pytest.approx(2 * graded.grading.cost, rel=0.2)


def test_a_failed_chain_is_counted_and_reported(tmp_path: Path) -> None:
    world = engine()

    async def fail(_: str) -> None:
        raise BackendError("the server is away")

    world.backends["large"]._before = fail  # type: ignore[attr-defined]
    summary = summarise(
        run(tmp_path / "rows.jsonl", world), PROBLEMS, models=("small", "large"), seed=0, about=ABOUT
    )
    large = next(point for point in summary.points if point.router == "large")
    assert large.errors == len(PROBLEMS) and large.accuracy == 0 and "away" in str(large.error)
    assert summary.errors > len(PROBLEMS)


def test_a_contender_is_a_router_and_a_number() -> None:
    with pytest.raises(ConfigError, match="threshold must be a number, not 'high'"):
        Contender(Always("small"), "high")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="router int has no 'name'"):
        Contender(3)  # type: ignore[arg-type]


async def test_a_router_that_is_wrong_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(RouterError, match="'huge' at step 1 .*: model must be one of small, large"):
        await evaluate(engine(), [problem(1), problem(2)], [Contender(Always("huge"))], tmp_path / "rows")
