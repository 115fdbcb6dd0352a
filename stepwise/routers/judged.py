"""Scorers that ask a judge: process reward models and large models that grade a draft."""

from __future__ import annotations

from dataclasses import dataclass

from stepwise.errors import NoSignal, StepwiseError
from stepwise.routers.threshold import waiting_draft
from stepwise.types import Look, Trace, Verdict

SPECREASON = (
    "\n\nEvaluate the last reasoning step above for its correctness and its use for solving the problem. "
    "Assign a score from 0 to 9.\n<think>I think the quality score is: "
)
"""A judge's suffix in the manner of SpecReason (arXiv 2504.07891), for a model that follows instructions."""


def _judged(trace: Trace) -> Verdict:
    draft = waiting_draft(trace)
    if draft.verdict is None:
        raise StepwiseError("this scorer reads a judge's verdict, and the draft has none.")
    return draft.verdict


@dataclass(frozen=True)
class ProcessReward:
    """1 - the probability that a process reward model gives the draft.

    TRIM-Thr escalates when the reward is below theta, that is at ``threshold=1 - theta``; RSD
    (arXiv 2501.19324) is the same rule at theta = 0.7.

    Args:
        good: the token that approves; the model writes it or its only other verdict.
    """

    good: str = "+"
    look: Look = "judged"

    def score(self, trace: Trace) -> float:
        """1 - the reward of the waiting draft, in [0, 1].

        Raises:
            NoSignal: if the verdict came without a probability.
            StepwiseError: if there is no draft or verdict.
        """
        return 1.0 - self.reward(_judged(trace))

    def reward(self, verdict: Verdict) -> float:
        """The probability of approval, in [0, 1].

        Raises:
            NoSignal: if the judge's backend gave no probability.
        """
        if verdict.probability is None:
            raise NoSignal("the judge's verdict came without a probability")
        approves = verdict.token.strip() == self.good
        return verdict.probability if approves else 1.0 - verdict.probability


@dataclass(frozen=True)
class JudgeDigit:
    """9 minus the grade that a judge writes as one digit, as in SpecReason's ``greedy`` mode.

    No digit counts as grade 0. SpecReason accepts from grade 7 on: ``threshold=3`` here.
    """

    look: Look = "judged"

    def score(self, trace: Trace) -> float:
        """9 - the grade of the waiting draft, in [0, 9].

        Raises:
            StepwiseError: if there is no draft or verdict.
        """
        token = _judged(trace).token.strip()
        return 9.0 - (int(token) if len(token) == 1 and token.isdecimal() else 0)
