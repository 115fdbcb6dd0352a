"""Run routers over problems: one row per (router, threshold, problem), written as it finishes.

A run that is killed and started again keeps every row that it had and computes the rest.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from stepwise.engine.cost import CostModel
from stepwise.engine.engine import Engine
from stepwise.errors import ConfigError
from stepwise.evaluation import breakdown, metrics
from stepwise.evaluation.grader import Grader
from stepwise.evaluation.provenance import digest
from stepwise.types import Problem, Router, Step, Trace
from stepwise.verify import correct

Row = dict[str, Any]


@dataclass(frozen=True)
class Contender:
    """A router at one setting. ``threshold`` is None where there is no knob."""

    router: Router
    threshold: float | None = None

    @property
    def key(self) -> tuple[str, float | None]:
        return self.router.name, self.threshold


def make_row(
    trace: Trace,
    contender: Contender,
    setting: str,
    wall_s: float,
    cost: CostModel,
    sample: int = 0,
    *,
    correct: bool,
) -> Row:
    """Everything that is kept of a trace. A chain that failed counts as wrong, with its error."""
    problem = trace.problem
    return {
        "setting": setting,
        "problem": problem.id,
        "sample": sample,
        "labels": dict(problem.labels),
        "question": problem.question,
        "gold": problem.answer,
        "router": contender.router.name,
        "threshold": contender.threshold,
        "correct": correct,
        "cost": trace.cost,
        "answer": trace.answer,
        "stop": trace.stop,
        "error": trace.error,
        "tokens": {model: asdict(usage) for model, usage in trace.usage.items()},
        "spent": breakdown.spent(trace, cost),
        "steps": [_step(step) for step in trace.steps],
        "wall_s": wall_s,
    }


def _step(step: Step) -> dict[str, Any]:
    decision = step.decision
    return {
        "text": step.text,
        "model": step.model,
        "score": decision.score if decision else None,
        "reason": decision.reason if decision else "",
        "cost": step.cost,
        "signals": asdict(step.signals),
        "draft": step.draft.text if step.draft else None,
    }


def read_rows(path: Path) -> list[Row]:
    """Rows of an earlier run; a last line that was cut off by a kill is dropped."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


async def evaluate(
    engine: Engine,
    problems: Sequence[Problem],
    contenders: Iterable[Contender],
    path: Path,
    *,
    setting: str = "",
    concurrency: int = 64,
    samples: int = 1,
    grader: Grader | None = None,
    progress: Callable[[Sequence[Row]], None] = lambda rows: None,
) -> list[Row]:
    """Solve every problem with every contender, appending to the rows file as results come.

    Args:
        path: of the rows (JSON Lines). Rows found there that were made under the same setting, by
            the same router, on the same problem, and without an error, are kept as they are.
        setting: identifies what else the results depend on (pair, backend, sampling).
        samples: chains a problem and contender, each sampled with a seed of its own.
        grader: a model for answers that rules cannot compare.
        progress: called with the rows that became available.

    Raises:
        ConfigError: if two problems or two contenders cannot be told apart, a router asks for a
            judge that the engine lacks, or the file cannot be written.
    """
    contenders = list(contenders)
    _distinct("problems", [problem.id for problem in problems])
    _distinct("routers", [contender.key for contender in contenders])
    graded = grader.name if grader else ""
    made_by = {
        c.key: digest(setting, graded, engine.cost.unit, c.router, *_judged_by(engine, c)) for c in contenders
    }
    wanted = {
        (made_by[c.key], *c.key, p.id, p.question, k)
        for c in contenders
        for p in problems
        for k in range(samples)
    }
    rows = [row for row in read_rows(path) if _identity(row) in wanted and row["error"] is None]
    known = {_identity(row) for row in rows}
    progress(rows)
    with _appending(path) as file:
        for contender, sample in product(contenders, range(samples)):
            made = made_by[contender.key]
            missing = [p for p in problems if (made, *contender.key, p.id, p.question, sample) not in known]
            seeded = engine.with_sampling(seed=engine.seed + sample) if sample else engine
            began = time.perf_counter()
            async for trace in seeded.solve_many(missing, contender.router, concurrency=concurrency):
                wall_s, right = time.perf_counter() - began, await correct(trace)
                row = make_row(trace, contender, made, wall_s, engine.cost, sample, correct=right)
                if grader and not right and grader.concerns(trace):
                    row["grading"] = await grader.grade(trace)
                    row["correct"] = bool(row["grading"]["correct"])
                rows.append(row)
                print(json.dumps(row), file=file, flush=True)
                progress([row])
    return rows


def _judged_by(engine: Engine, contender: Contender) -> tuple[str, ...]:
    """The judge's revision, where results depend on it."""
    if contender.router.look != "judged":
        return ()
    if engine.judge is None:
        raise ConfigError(
            f"router {contender.router.name!r} asks for a judge; give one with pair.judge=PATH."
        )
    return (engine.judge.backend.revision,)


def _identity(row: Row) -> tuple[Any, ...]:
    return (
        row["setting"],
        row["router"],
        row["threshold"],
        row["problem"],
        row["question"],
        row.get("sample", 0),
    )


def _distinct(what: str, names: Sequence[object]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ConfigError(f"{what}: {twice[0]!r} occurs twice; each needs a name of its own.")


def _appending(path: Path) -> IO[str]:
    """The rows file, opened to append; a last line that a kill cut off is closed first."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torn = path.exists() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
        file = path.open("a", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"output: {path} cannot be written: {error.strerror}.") from error
    if torn:
        file.write("\n")
    return file


def _key(row: Row) -> tuple[str, float | None]:
    return row["router"], row["threshold"]


def table(
    rows: Iterable[Row], problems: Sequence[Problem], value: str
) -> dict[tuple[str, float | None], NDArray[Any]]:
    """One array [n] per (router, threshold), in the order of the problems: means over a problem's samples."""
    place = {problem.id: i for i, problem in enumerate(problems)}
    total: dict[tuple[str, float | None], NDArray[Any]] = {}
    for row in rows:
        sums = total.setdefault(_key(row), np.zeros((2, len(problems))))
        sums[:, place[row["problem"]]] += (row[value], 1)
    return {key: sums / np.maximum(counts, 1) for key, (sums, counts) in total.items()}


def summarise(
    rows: Sequence[Row],
    problems: Sequence[Problem],
    *,
    models: Sequence[str],
    seed: int,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of ``summary.json``.

    Args:
        models: of the pool, cheapest first; the first and the last are the references.
        about: what the run says of itself.

    Raises:
        ConfigError: if the rows hold no small-only or no large-only run to compare with.
    """
    small, large = models[0], models[-1]
    correct, cost = table(rows, problems, "correct"), table(rows, problems, "cost")
    if (small, None) not in correct or (large, None) not in correct:
        raise ConfigError(
            f"routers must include {small!r} and {large!r}: the others are measured against them."
        )
    of_point: dict[tuple[str, float | None], list[Row]] = {}
    for row in rows:
        of_point.setdefault(_key(row), []).append(row)
    points = [
        {
            "router": name,
            "threshold": threshold,
            "accuracy": float(correct[name, threshold].mean()),
            "accuracy_ci": metrics.interval(correct[name, threshold], seed=seed),
            "cost": float(cost[name, threshold].mean()),
            "cost_ci": metrics.interval(cost[name, threshold], seed=seed),
            **_details(some, large, seed),
        }
        for (name, threshold), some in of_point.items()
    ]
    runs = {name: run for name, run in samples(rows, problems).items() if name not in (small, large)}
    ends = [(correct[name, None], cost[name, None]) for name in (small, large)]
    return {
        **about,
        "n": len(problems),
        "seed": seed,
        "models": list(models),
        "large_cost": float(cost[large, None].mean()),
        "samples": 1 + max(row.get("sample", 0) for row in rows),
        "errors": sum(point["errors"] for point in points),
        "grading_cost": sum(row["grading"]["cost"] for row in rows if "grading" in row),
        "reliability": {name: breakdown.reliability(of_point[name, None]) for name in (small, large)},
        "points": points,
        "metrics": metrics.summarise(runs, *ends, seed=seed),
    }


def samples(rows: Sequence[Row], problems: Sequence[Problem]) -> dict[str, metrics.Samples]:
    """(correct, cost) of each router, both [points, n]: what `stepwise.evaluation.metrics` compares."""
    correct, cost = table(rows, problems, "correct"), table(rows, problems, "cost")
    names = dict.fromkeys(name for name, _ in correct)
    keys = {name: [key for key in correct if key[0] == name] for name in names}
    return {
        name: (np.stack([correct[key] for key in keys[name]]), np.stack([cost[key] for key in keys[name]]))
        for name in names
    }


def _details(rows: Sequence[Row], large: str, seed: int) -> dict[str, Any]:
    """What a point says beyond its means."""
    return {
        "tokens": _tokens(rows),
        "wall_s": max(row["wall_s"] for row in rows),
        "errors": sum(row["error"] is not None for row in rows),
        "error": next((row["error"] for row in rows if row["error"]), None),
        "graded": sum("grading" in row for row in rows),
        "spent": breakdown.mean_spent(rows),
        "positions": breakdown.positions(rows),
        "breakdown": breakdown.by_label(rows, large, seed=seed),
    }


def _tokens(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    total: dict[str, dict[str, int]] = {}
    for row in rows:
        for model, usage in row["tokens"].items():
            for kind, count in usage.items():
                part = total.setdefault(model, {})
                part[kind] = part.get(kind, 0) + count
    return total
