"""A router of your own on StepBench: python -m examples.my_router

It lets the large model write from the first unsure step on, since a chain that has gone wrong stays wrong.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from rich.console import Console

from stepwise.evaluation.replayed import Bench
from stepwise.evaluation.run import Contender
from stepwise.recording.folder import Recording
from stepwise.report.bench_table import bench_table, remarks
from stepwise.types import Decision, Look, Trace


@dataclass(frozen=True)
class FromTheFirstDoubt:
    """``limit`` is the largest allowed −log p of the draft's least likely token."""

    limit: float
    name: str = "from_the_first_doubt"
    look: Look = "after_draft"

    def decide(self, trace: Trace) -> Decision:
        doubt = any(step.model == "large" for step in trace.steps)
        unsure = trace.draft is not None and -trace.draft.signals.min_logprob > self.limit
        return Decision("large" if doubt or unsure else "small")


if __name__ == "__main__":
    bench = Bench(Recording(sys.argv[1] if len(sys.argv) > 1 else "recordings/gsm8k-qwen_coder"))
    scored = [bench.replay(Contender(FromTheFirstDoubt(limit), limit)) for limit in (0.8, 1.05, 1.35)]
    rows = bench.table([bench.small, bench.large, *scored])
    console = Console()
    console.print(bench_table(rows, f"{len(bench.problems)} problems"))
    for line in remarks(rows):
        console.print(line)
