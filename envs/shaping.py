"""Process rewards, as potentials: they lead a learner on the way, and leave the best policy what it was.

    RoutingVectorEnv(engine, problems, look="judged", potential=ProcessReward(approval))

A step gains Φ(after) - Φ(before), and Φ is 0 at the end (`envs.task.Task`). Paying for steps directly would
be another task: chains that please whoever judges them, right or wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from stepwise.routers.features import approves
from stepwise.types import Step, Trace


@dataclass(frozen=True)
class ProcessReward:
    """Φ is ``weight`` times the mean value of the steps so far; 0 before the first.

    Args:
        value: of a step, `approval` or a function of one's own, in [0, 1].
        weight: of a chain whose steps all have the value 1, where a right answer is worth 1.
    """

    value: Callable[[Step], float]
    weight: float = 0.5

    def __call__(self, trace: Trace) -> float:
        if not trace.steps:
            return 0.0
        return self.weight * sum(map(self.value, trace.steps)) / len(trace.steps)


def approval(step: Step) -> float:
    """What the judge thought of a step while it was a draft (``look="judged"``), in [0, 1]. One that the
    judge has not read, because another model wrote it in the draft's place, counts as approved."""
    return 1.0 if step.verdict is None else approves(step.verdict)
