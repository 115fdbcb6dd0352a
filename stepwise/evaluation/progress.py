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
    total = len(problems) * len(contenders) * samples
    spent, started = 0.0, False

    def advance(rows: Sequence[Row]) -> None:
        nonlocal spent, started
        if rows and not started:  # an earlier run's, all at once
            console.print(found(folder / "rows.jsonl", len(rows), total))
        started = True
        spent += sum(row.cost for row in rows)
        progress.update(
            task, advance=len(rows), description=f"solving, {spent:.3g} {solver.about.unit} so far"
        )

    if not console.is_terminal:  # where nothing shows progress
        console.print(f"{total:,} chains: {len(contenders)} settings on {len(problems):,} problems")
    try:
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
            task = progress.add_task("solving", total=total)
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


def found(file: Path, done: int, total: int) -> str:
    """What a run begins with that goes on, in a sentence."""
    left = f"{total - done:,} are left" if done < total else "none is left"
    return f"{file}: {done:,} of {total:,} chains are solved, {left}."
