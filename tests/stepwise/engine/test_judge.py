"""Judged drafts: the verdict is read, the judge is paid, and nothing is charged twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from stepwise.errors import ConfigError, StepwiseError
from stepwise.evaluation.run import Contender, evaluate
from stepwise.routers import JudgeDigit, ProcessReward, ThresholdRouter
from stepwise.types import Signals, Step, Trace, Usage, Verdict
from stepwise.verify import is_correct
from tests.worlds import checker, engine, problem

ROUTER = ThresholdRouter(ProcessReward(), 0.5, "prm")


def drafted(token: str, probability: float = 0.8) -> Trace:
    draft = Step("x", (1,), "small", {}, Signals(), verdict=Verdict(token, probability))
    return Trace(problem(1), draft=draft)


def test_a_reward_model_sends_exactly_the_wrong_drafts_to_large() -> None:
    world = engine(judge=checker())
    trace = world.solve_sync(problem(1, 9, 2, 8), ROUTER)
    assert [step.model for step in trace.steps] == ["small", "large", "small", "large", "small"]
    assert is_correct(trace)
    verdicts = [(step.draft or step).verdict for step in trace.steps]
    assert [v.token for v in verdicts if v] == ["+", "-", "+", "-", "+"]


def test_the_judge_reads_every_token_once_and_is_paid_for_it() -> None:
    judge = checker()
    world = engine(judge=judge)
    trace = world.solve_sync(problem(1, 9, 2, 8), ROUTER)
    paid = trace.usage["judge"]
    assert paid.prompt == sum(call.prompt for call in judge.calls)
    assert paid.discarded == sum(call.completion for call in judge.calls) and paid.completion == 0
    rejected = sum(len(step.draft.text) for step in trace.steps if step.draft)
    chain = len("1 9 2 8\n") + len(trace.text)
    replaced = sum(len(step.text) for step in trace.steps if step.draft)
    assert chain <= paid.prompt - paid.cached <= chain + rejected + replaced + len(trace.steps)
    assert trace.cost == pytest.approx(world.cost(trace.usage))


def test_a_comparison_with_a_judge_that_is_missing_is_refused_before_any_work(tmp_path: Path) -> None:
    world = engine()
    work = evaluate(world, [problem(1, 2)], [Contender(ROUTER, 0.5)], tmp_path / "rows.jsonl")
    with pytest.raises(ConfigError, match="router 'prm' asks for a judge"):
        world.run(work)


def test_scores_are_the_need_for_the_large_model() -> None:
    assert ProcessReward().score(drafted("+")) == pytest.approx(0.2)
    assert ProcessReward().score(drafted("-")) == pytest.approx(0.8)
    assert JudgeDigit().score(drafted(" 7")) == 2.0
    assert JudgeDigit().score(drafted("good")) == JudgeDigit().score(drafted("0")) == 9.0


def test_a_missing_judge_or_verdict_is_named() -> None:
    with pytest.raises(ConfigError, match="no judge"):
        engine().solve_sync(problem(1, 2), ROUTER)
    with pytest.raises(StepwiseError, match="the draft has none"):
        ProcessReward().score(
            Trace(problem(1), draft=Step("x", (1,), "small", {"small": Usage()}, Signals()))
        )
