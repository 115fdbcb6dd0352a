"""What is recorded is what was written: nothing lost, nothing twice, no question, and the same on replay."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from stepwise.errors import ConfigError
from stepwise.recording import folder as shards
from stepwise.recording.folder import JOURNAL, Recording
from stepwise.recording.records import Node, Outcome, Question
from stepwise.recording.replay import UNKNOWN, RecordedProblem, problems
from stepwise.routers import Always, Confidence, FirstTokenEntropy, LargeFirst, ThresholdRouter
from stepwise.types import Router, Trace
from tests.stepwise.recording.worlds import PROBLEMS, open_recording, recording_engine, replay_engine

ROUTERS: list[Router] = [
    Always("small"),
    Always("large"),
    LargeFirst(2),
    ThresholdRouter(Confidence("min"), 0.5, "confidence"),
    ThresholdRouter(FirstTokenEntropy(), 0.1, "entropy"),
    ThresholdRouter(FirstTokenEntropy(), 10.0, "entropy"),
]


def recorded(path: Path, *routers: Router) -> list[Trace]:
    """Live chains of every problem with every router, recorded into a folder."""
    recording = open_recording(path)
    engine, _ = recording_engine(recording)
    traces = [engine.solve_sync(problem, router) for router in routers for problem in PROBLEMS]
    recording.close()
    return traces


def anonymous(trace: Trace) -> Trace:
    """A trace without what a recording does not hold."""
    return replace(trace, problem=RecordedProblem(trace.problem.id, UNKNOWN))


def test_replay_is_the_live_trace(tmp_path: Path) -> None:
    live = recorded(tmp_path, *ROUTERS)
    recording = Recording(tmp_path)
    engine = replay_engine(recording.tree)
    replayed = [engine.solve_sync(p, router) for router in ROUTERS for p in problems(recording, "test")]
    assert [anonymous(trace) for trace in live] == replayed
    assert [trace.usage for trace in live] == [trace.usage for trace in replayed]
    assert {trace.stop for trace in replayed} == {"answered"}


def test_what_is_not_recorded_is_an_error_of_its_own_on_the_trace(tmp_path: Path) -> None:
    recorded(tmp_path, Always("small"))
    recording = Recording(tmp_path)
    trace = replay_engine(recording.tree).solve_sync(problems(recording, "test")[0], Always("large"))
    assert trace.stop == "error"
    assert "not recorded" in str(trace.error)


@pytest.mark.parametrize("records", [1, 12, 25, 40])
def test_a_killed_recording_loses_nothing_and_repeats_nothing(tmp_path: Path, records: int) -> None:
    program = [sys.executable, "-m", "tests.stepwise.recording.killed"]
    assert subprocess.run([*program, str(tmp_path / "killed"), str(records)], check=False).returncode == -9
    before = open_recording(tmp_path / "killed")
    assert len(before.tree) + len(before.tree.questions) == records
    engine, backends = recording_engine(before)
    for problem in PROBLEMS:
        engine.solve_sync(problem, Always("small"))
    before.close()
    recorded(tmp_path / "whole", Always("small"))
    whole = Recording(tmp_path / "whole").tree
    assert set(Recording(tmp_path / "killed").tree.nodes) == set(whole.nodes)
    kept = max(0, records - len(PROBLEMS))
    written = [node.generated for node in before.tree.nodes]
    assert backends["small"].generated == sum(written[kept:])
    assert sum(written) == sum(node.generated for node in whole.nodes)


def test_a_line_that_a_kill_cut_off_is_dropped(tmp_path: Path) -> None:
    recording = open_recording(tmp_path)
    recording.add(Outcome("a", "1", True))
    recording.add(Outcome("b", "2", False))
    journal = tmp_path / JOURNAL
    journal.write_bytes(journal.read_bytes()[:-9])
    again = open_recording(tmp_path)
    assert again.tree.correct("a", "1") is True
    assert again.tree.correct("b", "2") is None
    again.add(Outcome("b", "2", False))
    again.close()
    assert Recording(tmp_path).tree.correct("b", "2") is False


def test_a_journal_becomes_shards_and_what_is_in_both_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD", 15)
    recorded(tmp_path, *ROUTERS)
    assert len(list(tmp_path.glob("nodes-*.parquet"))) > 1
    tree = Recording(tmp_path).tree
    some = list(tree.nodes)[:5]
    (tmp_path / JOURNAL).write_bytes(b"".join(msgspec.json.encode(node) + b"\n" for node in some))
    again = open_recording(tmp_path)
    again.close()
    assert set(again.tree.nodes) == set(tree.nodes)
    rows = sum(len(shards._parquet().read_table(path)) for path in tmp_path.glob("nodes-*.parquet"))
    assert rows == len(tree)


def test_no_question_and_no_gold_answer_is_in_the_files(tmp_path: Path) -> None:
    recorded(tmp_path, Always("small"))
    tree = Recording(tmp_path).tree
    for problem in PROBLEMS:
        kept = msgspec.to_builtins(tree.questions[problem.id])
        kept.pop("problem")  # the id, which is made of the question in this world
        assert problem.question not in str(kept)
    assert Question.__struct_fields__ == ("problem", "split", "hash", "prompt")
    for node in tree.nodes:
        assert not any(problem.question in node.text for problem in PROBLEMS)


def test_another_recording_in_the_folder_is_refused(tmp_path: Path) -> None:
    open_recording(tmp_path).close()
    with pytest.raises(ConfigError, match="another prompt"):
        Recording(tmp_path, {"pair": "adders", "prompt": "Q: {question}\n"})
    with pytest.raises(ConfigError, match="missing"):
        Recording(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="reading only"):
        Recording(tmp_path).add(Outcome("a", "1", True))


def test_a_probe_and_the_rest_are_the_step() -> None:
    node = Node("p", "m", 0, "ab\n", (1, 2, 3), 1, "stop", 10, 3, -0.5, -1.0, 0.7, 0.1)
    assert node.probe.text + node.rest.text == node.text
    assert node.probe.token_ids + node.rest.token_ids == node.token_ids
    assert node.probe.usage.completion + node.rest.usage.completion == node.generated
    assert node.rest.usage.prompt == node.sent + 1
