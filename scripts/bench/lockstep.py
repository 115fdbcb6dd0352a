"""The loop that published step routers run, to compare with: batches in lock step, prompts as text.

A batch is taken through three phases with a barrier after each: every chain drafts a step with the small
model, all drafts are scored, and the rejected ones are written again by the large model. The next batch
starts when the slowest chain of this one has ended. Prompts are text that is tokenised anew every time
(TRIM, RSD and SpecReason do it so). Scores here come from the draft's own probabilities and cost nothing,
which favours the loop: a process reward model or a judge would add a call per step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stepwise.engine.backend import Backend, Completion, Sampling
from stepwise.models.pair import Pair
from stepwise.types import Decision, Look, Problem, Trace

Decisions = Mapping[str, Sequence[str]]
"""By problem, the model that wrote each step."""


@dataclass(frozen=True)
class Replay:
    """A router that decides as a recorded run did."""

    decisions: Decisions
    name: str = "replay"
    look: Look = "after_draft"

    def decide(self, trace: Trace) -> Decision:
        recorded, at = self.decisions[trace.problem.id], len(trace.steps)
        return Decision(recorded[at] if at < len(recorded) else recorded[-1])


async def lockstep(
    pair: Pair, backends: Mapping[str, Backend], problems: Sequence[Problem], decisions: Decisions, batch: int
) -> int:
    """Solve all problems; returns the number of steps written."""
    steps = 0
    for start in range(0, len(problems), batch):
        steps += await _batch(pair, backends, problems[start : start + batch], decisions)
    return steps


async def _batch(
    pair: Pair, backends: Mapping[str, Backend], problems: Sequence[Problem], decisions: Decisions
) -> int:
    small, large = list(backends)
    texts = {problem.id: pair.prompt.replace("{question}", problem.question) for problem in problems}
    done = dict.fromkeys(texts, 0)
    sampling = Sampling(pair.max_step_tokens, stop=(pair.separator,))

    async def write(model: str, ids: Sequence[str]) -> dict[str, Completion]:
        calls = [backends[model].generate(backends[model].encode(texts[i]), sampling) for i in ids]
        return dict(zip(ids, await asyncio.gather(*calls), strict=True))

    while active := [i for i in texts if done[i] < len(decisions[i])]:
        written = await write(small, active)
        rejected = [i for i in active if decisions[i][done[i]] == large]
        written |= await write(large, rejected)
        for i in active:
            texts[i] += written[i].text
            done[i] += 1
    return sum(done.values())
