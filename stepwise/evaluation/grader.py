"""A model that grades answers which rules cannot compare (proofs in a sentence, functions in words).

It is asked through an engine of its own, so any backend serves, a step store caches its verdicts, and what it
costs is reported beside the chains' cost, never in it.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

from stepwise.engine.engine import Engine
from stepwise.evaluation.rows import Grading
from stepwise.routers import Always
from stepwise.types import Problem, Trace
from stepwise.verify.compare import rules_suffice

QUESTION = """Problem:
{question}

Reference answer:
{gold}

Candidate answer:
{answer}

Is the candidate answer equivalent to the reference answer? Reply with "Verdict: yes" or "Verdict: no"."""
_VERDICT = re.compile(r"verdict\W+(yes|no)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Grader:
    """Asks the only model of ``engine`` (build it with a `stepwise.Pair` of one model)."""

    engine: Engine

    @property
    def name(self) -> str:
        return self.engine.models[0]

    def concerns(self, trace: Trace) -> bool:
        """Whether an answer that rules call wrong is for the model: one is there, and may be right."""
        gold = trace.problem.answer
        if trace.stop != "answered" or not trace.answer:
            return False
        return not (rules_suffice(gold) and rules_suffice(trace.answer))

    async def grade(self, trace: Trace) -> Grading:
        """What the model says of a chain's answer."""
        problem = trace.problem
        filled = (
            QUESTION.replace("{answer}", trace.answer[:2_000])
            .replace("{gold}", problem.answer)
            .replace("{question}", problem.question)
        )
        reply = await self.engine.solve(Problem(f"grade-{problem.id}", filled), Always(self.name))
        verdicts = _VERDICT.findall(reply.text)
        return Grading(
            correct=verdicts[-1].lower() == "yes" if verdicts else None,
            text=reply.text,
            error=reply.error,
            cost=reply.cost,
            cost_unit=self.engine.cost.unit,
            tokens={model: asdict(usage) for model, usage in reply.usage.items()},
        )
