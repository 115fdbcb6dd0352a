"""Run routers over problems: one row per (router, threshold, problem), written as it finishes.

A run that is killed and started again keeps every row that it had and computes the rest.
"""

from __future__ import annotations

import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from itertools import product
from pathlib import Path

from msgspec import structs

from stepwise.engine.concurrency import as_they_finish
from stepwise.engine.engine import Engine
from stepwise.errors import ConfigError
from stepwise.evaluation.grader import Grader
from stepwise.evaluation.provenance import digest
from stepwise.evaluation.row_file import RowFile
from stepwise.evaluation.rows import Row
from stepwise.evaluation.solver import About, Chain, Contender, Here, Solver
from stepwise.types import Problem, Router
from stepwise.verify import warm

__all__ = ["Contender", "evaluate"]

INSTALLED = Path(sysconfig.get_path("purelib"))


async def evaluate(
    engine: Engine | Solver,
    problems: Sequence[Problem],
    contenders: Iterable[Contender],
    path: Path,
    *,
    setting: str = "",
    concurrency: int = 64,
    samples: int = 1,
    grader: Grader | None = None,
    progress: Callable[[Sequence[Row]], None] = lambda rows: None,
) -> Sequence[Row]:
    """Solve every problem with every contender, appending to the rows file as results come.

    Args:
        engine: of this process, or another solver, such as workers on a cluster.
        path: of the rows (JSON Lines). Rows found there that were made under the same setting, by
            the same router, on the same problem, and without an error, are kept as they are.
        setting: identifies what else the results depend on (pair, backend, sampling).
        samples: chains a problem and contender, each sampled with a seed of its own.
        grader: a model for answers that rules cannot compare; a solver has its own.
        progress: called with the rows that became available.

    Raises:
        ConfigError: if two problems or two contenders cannot be told apart, a router asks for a
            judge that the engine lacks, or the file cannot be written.
    """
    solver = Here(engine, grader) if isinstance(engine, Engine) else engine
    contenders = list(contenders)
    _distinct("problems", [problem.id for problem in problems])
    _distinct("routers", [contender.key for contender in contenders])
    made_by = {c.key: _setting(setting, solver.about, c) for c in contenders}
    numbers = {problem.id: number for number, problem in enumerate(problems)}
    made = {(key, sample): bytearray(len(problems)) for key in made_by for sample in range(samples)}

    def wanted(row: Row) -> bool:
        made_alike = made_by.get(row.key) == row.setting and row.sample < samples
        number = numbers.get(row.problem)
        if not made_alike or row.error is not None or number is None:
            return False
        if row.question != problems[number].question:
            return False
        made[row.key, row.sample][number] = True
        return True

    rows = RowFile(path, wanted)
    progress(rows)
    if isinstance(solver, Here) and any("\\" in problem.answer for problem in problems):
        warm()
    for contender, sample in product(contenders, range(samples)):
        missing = (p for p, is_made in zip(problems, made[contender.key, sample], strict=True) if not is_made)
        chains = (Chain(problem, sample, made_by[contender.key]) for problem in missing)
        began = time.perf_counter()
        async for row in as_they_finish(partial(solver, contender), chains, concurrency):
            row = structs.replace(row, wall_s=time.perf_counter() - began)
            rows.add(row)
            progress([row])
    return rows


def _setting(setting: str, about: About, contender: Contender) -> str:
    """Identifies everything that a contender's rows depend on."""
    router = contender.router
    return digest(
        setting, about.grader, about.unit, router, *_judged_by(about, contender), *_own_code(router)
    )


def _own_code(router: Router) -> list[bytes]:
    """The files of a router that is not of this package, and of its parts: edited, it is another router."""
    parts: list[object] = []
    if is_dataclass(router):
        parts = [getattr(router, field.name) for field in fields(router)]
    names = sorted({type(part).__module__ for part in (router, *parts)})
    known = sys.stdlib_module_names | {"stepwise"}
    files = [
        getattr(sys.modules[name], "__file__", None) for name in names if name.partition(".")[0] not in known
    ]
    return [Path(file).read_bytes() for file in files if file and INSTALLED not in Path(file).parents]


def _judged_by(about: About, contender: Contender) -> tuple[str, ...]:
    """The judge's revision, where results depend on it."""
    if contender.router.look != "judged":
        return ()
    if about.judge is None:
        raise ConfigError(
            f"router {contender.router.name!r} asks for a judge; give one with pair.judge=PATH."
        )
    return (about.judge,)


def _distinct(what: str, names: Sequence[object]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ConfigError(f"{what}: {twice[0]!r} occurs twice; each needs a name of its own.")
