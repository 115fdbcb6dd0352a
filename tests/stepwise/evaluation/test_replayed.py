"""StepBench: a recording says of a router what the live models say; what it cannot say is bounded."""

from __future__ import annotations

import pickle
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from stepwise.errors import ConfigError, RouterError
from stepwise.evaluation.replayed import Bench
from stepwise.evaluation.run import Contender
from stepwise.recording.folder import Recording
from stepwise.recording.records import Chain, Outcome
from stepwise.routers import Always, Confidence, JudgeDigit, LargeFirst, ThresholdRouter
from stepwise.types import Decision, Look, Router, Trace
from tests.stepwise.recording.worlds import PROBLEMS, recording_engine

ABOUT = {
    "models": {
        name: {"weights": name, "parameters": size, "stop": []}
        for name, size in (("small", 1), ("large", 20))
    },
    "separator": "\n", "max_step_tokens": 64, "max_steps": 32,
}  # fmt: skip
CONFIDENCE = ThresholdRouter(Confidence("min"), 0.5, "confidence")


def record(folder: Path, *routers: Router) -> list[Trace]:
    recording = Recording(folder, ABOUT)
    engine, _ = recording_engine(recording)
    traces = []
    for router in (Always("small"), Always("large"), *routers):
        for problem in PROBLEMS:
            trace = engine.solve_sync(problem, router)
            right, steps = trace.answer == problem.answer, len(trace.steps)
            recording.add(Outcome(problem.id, trace.answer, right))
            recording.add(
                Chain(problem.id, router.name, None, "answered", trace.answer, right, steps, {"small": 1})
            )
            traces.append(trace)
    recording.close()
    return traces[-len(PROBLEMS) :]


def test_a_recorded_router_is_scored_as_it_was_live(tmp_path: Path) -> None:
    live = record(tmp_path, CONFIDENCE)
    bench = Bench(Recording(tmp_path))
    replayed = bench.replay(Contender(CONFIDENCE, 0.5))
    assert replayed.coverage == 1.0
    assert replayed.cost.sum() == pytest.approx(sum(trace.cost for trace in live))
    right = [trace.answer == trace.problem.answer for trace in live]
    assert replayed.correct.tolist() == [float(value) for value in right]
    rows = {row.router: row for row in bench.table([bench.small, bench.large, replayed])}
    assert rows["large"].accuracy == 1.0 and rows["large"].cost == pytest.approx(1.0)
    assert rows["small"].accuracy < 1.0
    assert rows["confidence"].settings[0].threshold == 0.5
    assert rows["confidence"].apgr is not None


def test_chains_that_leave_the_recording_are_wrong_at_the_large_models_cost(tmp_path: Path) -> None:
    record(tmp_path)
    bench = Bench(Recording(tmp_path))
    replayed = bench.replay(Contender(LargeFirst(1), 1))
    assert replayed.coverage < 1.0
    lost = replayed.lost.astype(bool)
    assert lost.any()
    assert not replayed.correct[lost].any()
    assert (replayed.cost[lost] >= bench.large.cost[lost]).all()
    setting = bench.table([replayed])[0].settings[0]
    assert setting.accuracy_at_best == pytest.approx(setting.accuracy + lost.mean())


def test_a_preamble_that_is_in_the_cache_costs_nothing(tmp_path: Path) -> None:
    record(tmp_path, CONFIDENCE)
    recording = Recording(tmp_path)
    recording.about["shared"] = {"small": 2, "large": 1}
    whole, cached = Bench(recording), Bench(recording, preamble=False)
    assert cached.small.cost.tolist() == [cost - 2 * 2 * 1 for cost in whole.small.cost]
    assert cached.large.cost.tolist() == [cost - 1 * 2 * 20 for cost in whole.large.cost]
    both = (bench.replay(Contender(CONFIDENCE, 0.5)) for bench in (whole, cached))
    before, after = (replayed.cost.sum() for replayed in both)
    assert 0 < before - after <= len(PROBLEMS) * (2 * 2 * 1 + 1 * 2 * 20)


def test_problems_may_come_from_their_data_set(tmp_path: Path) -> None:
    live = record(tmp_path, CONFIDENCE)
    recording = Recording(tmp_path)
    bench = Bench(recording, dataset=PROBLEMS[2:])
    assert [problem.question for problem in bench.problems] == [p.question for p in PROBLEMS[2:]]
    replayed = bench.replay(Contender(CONFIDENCE, 0.5))
    assert replayed.coverage == 1.0
    assert replayed.cost.sum() == pytest.approx(sum(trace.cost for trace in live[2:]))
    other = replace(PROBLEMS[0], question="1 1")
    with pytest.raises(ConfigError, match="does not ask what the recorded one asks"):
        Bench(recording, dataset=[other])


def total(question: str) -> int:
    return sum(int(digit) for digit in question if digit.isdigit())


@dataclass(frozen=True)
class Reads:
    """The large model adds what comes to more than ``limit``."""

    limit: float
    name: str = "reads"
    look: Look = "before"

    def decide(self, trace: Trace) -> Decision:
        return Decision("large" if total(trace.problem.question) > self.limit else "small")


def test_a_question_that_is_not_recorded_is_never_something_else(tmp_path: Path) -> None:
    record(tmp_path)
    recording = Recording(tmp_path)
    recording.about["dataset"] = "sums"
    reads = Contender(Reads(14))
    with pytest.raises(
        RouterError, match=r"router 'reads' at step 1 .* holds no questions; pass dataset=sums"
    ):
        Bench(recording).replay(reads)
    bench = Bench(recording, dataset=PROBLEMS)
    much = np.array([total(problem.question) > 14 for problem in PROBLEMS])
    assert much.any() and not much.all()
    assert (bench.replay(reads).cost == np.where(much, bench.large.cost, bench.small.cost)).all()
    with pytest.raises(ConfigError, match="none of its problems is in recording .* of 'sums', split 'test'"):
        Bench(recording, dataset=[replace(PROBLEMS[0], id="other")])


def test_a_problem_without_its_question_is_a_value(tmp_path: Path) -> None:
    record(tmp_path)
    first, second = Bench(Recording(tmp_path)).problems[:2]
    assert first != second and len({first, pickle.loads(pickle.dumps(first)), deepcopy(first)}) == 1
    with pytest.raises(RouterError, match="holds no questions"):
        first.question  # noqa: B018


def test_what_a_recording_cannot_answer_is_refused(tmp_path: Path) -> None:
    record(tmp_path)
    bench = Bench(Recording(tmp_path))
    judged = ThresholdRouter(JudgeDigit(), 7.0, "specreason")
    with pytest.raises(ConfigError, match="judge"):
        bench.replay(Contender(judged, 7.0))
    with pytest.raises(ConfigError, match="no problem of 'train'; its splits are test"):
        Bench(Recording(tmp_path), split="train")
    with pytest.raises(RouterError, match="model must be one of small, large, not 'huge'"):
        bench.replay(Contender(Always("huge")))
    Recording(tmp_path / "empty", ABOUT).close()
    with pytest.raises(ConfigError, match="no problem"):
        Bench(Recording(tmp_path / "empty"))
