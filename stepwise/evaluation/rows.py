"""One line of ``rows.jsonl``: everything that is kept of a finished chain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import msgspec

from stepwise.engine.cost import CostModel
from stepwise.evaluation.spent import spent
from stepwise.types import Signals, Step, Trace

Key = tuple[str, float | None]
"""A router at one setting."""


class Grading(msgspec.Struct, frozen=True):
    """What a model said of an answer that rules cannot compare.

    Attributes:
        correct: its verdict; None if it gave none.
        text: its words.
        tokens: by model and kind.
    """

    correct: bool | None
    text: str
    error: str | None
    cost: float
    cost_unit: str
    tokens: dict[str, dict[str, int]]


class RowStep(msgspec.Struct, frozen=True):
    """A step of a chain. ``draft`` is the text of the draft that it replaced."""

    text: str
    model: str
    score: float | None
    reason: str
    cost: float
    signals: Signals
    draft: str | None


class Row(msgspec.Struct, frozen=True):
    """A chain of one router at one setting on one problem.

    Attributes:
        setting: identifies what made it, see `stepwise.evaluation.run.evaluate`.
        sample: number of the chain among those of its problem.
        cost: in the unit of the run.
        tokens: by model and kind.
        spent: the cost by model and kind of work, see `stepwise.evaluation.spent`.
        wall_s: seconds since the router's run began.
    """

    setting: str
    problem: str
    question: str
    gold: str
    router: str
    threshold: float | None
    correct: bool
    cost: float
    answer: str
    stop: str | None
    error: str | None
    tokens: dict[str, dict[str, int | float]]
    steps: list[RowStep]
    wall_s: float
    sample: int = 0
    labels: dict[str, str] = {}
    spent: dict[str, dict[str, float]] = {}
    grading: Grading | msgspec.UnsetType = msgspec.UNSET

    @property
    def key(self) -> Key:
        return self.router, self.threshold

    @property
    def identity(self) -> tuple[str, str, float | None, str, str, int]:
        """What tells it from other rows of a run, and from those of another run."""
        return self.setting, self.router, self.threshold, self.problem, self.question, self.sample


DECODER = msgspec.json.Decoder(Row)


def make_row(
    trace: Trace,
    key: Key,
    *,
    correct: bool,
    setting: str,
    wall_s: float,
    cost: CostModel,
    sample: int = 0,
) -> Row:
    """The row of a chain. One that failed counts as wrong, with its error."""
    problem, (router, threshold) = trace.problem, key
    return Row(
        setting=setting, problem=problem.id, question=problem.question, gold=problem.answer, router=router,
        threshold=threshold, correct=correct, cost=trace.cost, answer=trace.answer, stop=trace.stop,
        error=trace.error, tokens={model: asdict(usage) for model, usage in trace.usage.items()},
        steps=[_step(step) for step in trace.steps], wall_s=wall_s, sample=sample,
        labels=dict(problem.labels), spent=spent(trace, cost),
    )  # fmt: skip


def graded(row: Row, grading: Grading) -> Row:
    """The row with a model's verdict in the place of the rules'."""
    return msgspec.structs.replace(row, grading=grading, correct=bool(grading.correct))


def read_rows(path: Path) -> list[Row]:
    """Rows of an earlier run; a last line that was cut off by a kill is dropped."""
    if not path.exists():
        return []
    return [row for line in path.read_bytes().splitlines() if (row := decoded(line)) is not None]


def decoded(line: bytes) -> Row | None:
    """A line of a file of rows; None for what is none."""
    try:
        return DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def line_of(value: Row | Mapping[str, object]) -> str:
    """A value as a line of JSON."""
    return msgspec.json.encode(value).decode() + "\n"


def _step(step: Step) -> RowStep:
    decision = step.decision
    return RowStep(
        text=step.text, model=step.model, score=decision.score if decision else None,
        reason=decision.reason if decision else "", cost=step.cost, signals=step.signals,
        draft=step.draft.text if step.draft else None,
    )  # fmt: skip
