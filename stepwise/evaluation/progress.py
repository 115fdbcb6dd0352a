"""`evaluate` for a person who watches: a progress bar with the time left and what has been spent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from stepwise.engine.concurrency import run
from stepwise.engine.engine import Engine
from stepwise.evaluation.grader import Grader
from stepwise.evaluation.rows import Row
from stepwise.evaluation.run import evaluate
from stepwise.evaluation.solver import Contender, Here, Solver
from stepwise.types import Problem


def compare(
    engine: Engine | Solver,
    problems: Sequence[Problem],
    contenders: Sequence[Contender],
    folder: Path,
    *,
    setting: str,
    console: Console,
    concurrency: int = 64,
    samples: int = 1,
    grader: Grader | None = None,
) -> Sequence[Row]:
    """`evaluate` with a progress bar, into the folder's ``rows.jsonl``; closes the engine or solver."""
    solver = Here(engine, grader) if isinstance(engine, Engine) else engine
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    spent = 0.0

    def advance(rows: Sequence[Row]) -> None:
        nonlocal spent
        spent += sum(row.cost for row in rows)
        progress.update(
            task, advance=len(rows), description=f"solving, {spent:.3g} {solver.about.unit} so far"
        )

    try:
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
            task = progress.add_task("solving", total=len(problems) * len(contenders) * samples)
            work = evaluate(
                solver,
                problems,
                contenders,
                folder / "rows.jsonl",
                setting=setting,
                concurrency=concurrency,
                samples=samples,
                progress=advance,
            )
            return run(work)
    finally:
        run(solver.close())
