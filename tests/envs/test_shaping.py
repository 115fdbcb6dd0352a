"""Process rewards shape an episode, and a policy can see the judge's verdict."""

from __future__ import annotations

import numpy as np
import pytest

from envs import RoutingVectorEnv
from envs.observer import Observer
from envs.shaping import ProcessReward, approval
from envs.task import Task
from stepwise.errors import NoSignal, StepwiseError
from stepwise.routers.features import approves
from stepwise.types import Signals, Step, Trace, Verdict
from tests.worlds import checker, engine, problem

PROBLEMS = [problem(1, 7, 2)]  # the small model errs in the second step


def rewards(potential: ProcessReward | None, actions: list[int]) -> list[float]:
    env = RoutingVectorEnv(engine(judge=checker()), PROBLEMS, 1, look="judged", potential=potential)
    env.reset(seed=0)
    return [float(env.step([action])[1][0]) for action in actions]


def test_a_step_that_the_judge_dislikes_is_paid_less_and_the_return_stays() -> None:
    plain, shaped = rewards(None, [0, 0, 0, 0]), rewards(ProcessReward(approval, weight=0.6), [0, 0, 0, 0])
    gains = np.subtract(shaped, plain)
    likes = np.exp(-0.1)  # the judge's probability of its token
    assert gains[0] == pytest.approx(0.6 * likes) and gains[1] < 0.0
    assert sum(gains) == pytest.approx(0.0)


def test_a_function_of_ones_own_is_a_process_reward() -> None:
    short = ProcessReward(lambda step: float(len(step.text) < 12), weight=1.0)
    steps = [Step(text, (), "small", {}, Signals()) for text in ("short\n", "much longer than that\n")]
    assert [short(Trace(PROBLEMS[0], tuple(steps[:n]))) for n in (0, 1, 2)] == [0.0, 1.0, 0.5]


def test_the_verdict_is_a_feature() -> None:
    judged = Observer.of(["verdict"])
    task = Task(engine(judge=checker()), PROBLEMS, "judged", observer=judged)
    env = RoutingVectorEnv(task.engine, PROBLEMS, 1, look="judged", observer=judged)
    first, _ = env.reset(seed=0)
    second, *_ = env.step([0])
    assert first[0, 0] == pytest.approx(np.exp(-0.1)) and second[0, 0] == pytest.approx(1 - np.exp(-0.1))
    unjudged = RoutingVectorEnv(engine(), PROBLEMS, 1, observer=judged)
    with pytest.raises(StepwiseError, match="give the pair a judge, and look `judged`"):
        unjudged.reset(seed=0)


def test_grades_and_approvals_are_read() -> None:
    assert approves(Verdict(" 9", None)) == 1.0 and approves(Verdict("0", 0.9)) == 0.0
    assert approves(Verdict("+", 0.8)) == 0.8 and approves(Verdict("-", 0.75)) == 0.25
    with pytest.raises(NoSignal):
        approves(Verdict("+", None))
