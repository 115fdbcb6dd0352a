"""StepBench's table says what it does not know, and compares nothing with itself."""

from __future__ import annotations

import io
import json
from pathlib import Path

import msgspec
from rich.console import Console

from stepwise.evaluation.replayed import Bench
from stepwise.evaluation.run import Contender
from stepwise.recording.folder import Recording
from stepwise.report.bench_table import bench_table, remarks
from stepwise.report.thresholds import legend
from stepwise.routers import Confidence, LargeFirst, SmallFirst, ThresholdRouter
from tests.stepwise.evaluation.test_replayed import record


def test_what_leaves_the_recording_is_said_with_its_bounds(tmp_path: Path) -> None:
    """Only the small model's, the large one's and one threshold's chains are recorded."""
    rules = [(t, ThresholdRouter(Confidence("min"), t, "confidence")) for t in (0.5, 0.001)]
    record(tmp_path, rules[0][1])
    bench = Bench(Recording(tmp_path))
    contenders = [Contender(SmallFirst(2), 2), *(Contender(router, t) for t, router in rules)]
    rows = bench.table([bench.small, bench.large, *map(bench.replay, contenders)])
    shown = io.StringIO()
    Console(file=shown, width=150).print(bench_table(rows, "adders"))
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.getvalue().splitlines()]
    cells = {line[0]: line for line in lines if len(line) == 7 and line[0]}
    assert cells["small"][1] == cells["large"][1] == "–", "a model alone is an end of the curve"
    thresholds = [line[2] for line in lines if len(line) == 7 and line[2]]
    assert thresholds == ["2", "0.001", "0.5"], "in order"
    by_name = {row.router: row for row in rows}
    worst = by_name["small_first"].settings[0]
    assert worst.lost > 0 and worst.chains == len(bench.problems)
    columns, first, *said, remedy = remarks(rows)
    assert "chains kept:" in columns and "at best:" in columns
    assert first == legend(["small_first", "confidence"]) and "least likely token" in first
    assert by_name["small_first"].apgr is None
    assert said[0] == "small_first: APGR – (chains that leave the recording could be anything)."
    assert said[-1] == (
        f"small_first at 2 leaves the recording in {worst.lost} of {worst.chains} chains; its accuracy lies "
        f"between {worst.accuracy:.1%} and {worst.accuracy_at_best:.1%}."
    )
    assert "scripts.record" in remedy
    assert cells["small_first"][6] == f"{1 - worst.lost / worst.chains:.1%}"


def test_a_missing_area_has_its_reason_and_is_null(tmp_path: Path) -> None:
    rewrite = ThresholdRouter(
        Confidence("min"), -1.0, "rewrite"
    )  # a draft before every step of the large model
    record(tmp_path, rewrite)
    bench = Bench(Recording(tmp_path))
    leaving = [Contender(LargeFirst(k), k) for k in (1, 2)]
    rows = bench.table([bench.small, bench.large, *map(bench.replay, [Contender(rewrite, -1.0), *leaving])])
    assert [row.apgr for row in rows] == [None] * 4
    assert json.loads(msgspec.json.encode(rows[2]))["apgr"] is None
    said = "\n".join(remarks(rows))
    assert "rewrite: APGR – (no setting costs less than the large model alone)." in said
    assert "small: APGR" not in said, "a model alone is an end of the curve"
    assert said.count("large_first at") == 1 and "(and 1 more of its settings leave it)" in said


def test_an_area_that_lost_chains_leave_open_is_blank(tmp_path: Path) -> None:
    record(tmp_path, ThresholdRouter(Confidence("min"), 0.5, "confidence"))
    bench = Bench(Recording(tmp_path))
    sure, lost = bench.table(
        [
            bench.replay(Contender(ThresholdRouter(Confidence("min"), 0.5, "confidence"), 0.5)),
            bench.replay(Contender(LargeFirst(1), 1)),
        ]
    )
    assert sure.apgr is not None and not sure.settings[0].lost
    assert lost.apgr is None and lost.apgr_ci == [None, None] and lost.settings[0].lost
