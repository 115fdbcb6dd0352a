"""StepBench's table says what it does not know, and compares nothing with itself."""

from __future__ import annotations

import io
from pathlib import Path

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
    first, *said, remedy = remarks(rows)
    assert first == legend(["small_first", "confidence"]) and "least likely token" in first
    assert said[0] == (
        f"small_first at 2 leaves the recording in {worst.lost} of {worst.chains} chains; its accuracy lies "
        f"between {worst.accuracy:.1%} and {worst.accuracy_at_best:.1%}."
    )
    assert "scripts.record" in remedy
    assert cells["small_first"][6] == f"{1 - worst.lost / worst.chains:.1%}"


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
