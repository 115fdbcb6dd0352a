"""`stepwise demo`: the whole story in a few minutes, on real models that run on this machine."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from stepwise import load_dataset, load_pair, load_router, report
from stepwise.cli.options import Commands, positive
from stepwise.engine.engine import Engine
from stepwise.evaluation import provenance
from stepwise.evaluation.grader import Grader
from stepwise.evaluation.run import Contender, Row, evaluate, summarise
from stepwise.extras import require
from stepwise.models.pair import DEFAULT_BACKEND
from stepwise.routers import Always, Confidence, PolicyRouter, Random, ThresholdRouter
from stepwise.store.sqlite import SqliteStore
from stepwise.types import Problem

LOCAL = ("transformers", "vllm")
MIXES = (0.1, 0.25, 0.4, 0.6, 0.8)
CONFIDENCES = (0.1, 0.3, 0.6, 0.9, 1.2, 1.6, 2.1)
PRICES = (0.1, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8)


def add_parser(commands: Commands) -> None:
    command = commands.add_parser("demo", help="compare routers on the built-in models and draw the frontier")
    add = command.add_argument
    add("--n", type=positive, default=300, help="test problems (default: %(default)s)")
    add("--output", default="outputs/demo", help="folder for the report (default: %(default)s)")
    add("--backend", choices=LOCAL, default=DEFAULT_BACKEND, help="runs the models (default: %(default)s)")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace, console: Console) -> None:
    run(options.output, n=options.n, backend=options.backend, console=console)


def contenders(policy: PolicyRouter) -> list[Contender]:
    """Small-only, large-only, two random mixes, a confidence threshold, and the learned policy."""
    return [
        Contender(Always("small")),
        Contender(Always("large")),
        *(Contender(Random(p), p) for p in MIXES),
        *(Contender(Random(p, per="problem", name="random_query"), p) for p in MIXES),
        *(Contender(ThresholdRouter(Confidence("min"), t, "confidence"), t) for t in CONFIDENCES),
        *(Contender(policy.at(t), t) for t in PRICES),
    ]


def run(
    folder: str | Path, *, n: int = 300, backend: str = "transformers", console: Console
) -> dict[str, Any]:
    """Evaluate the contenders on nano test problems and write the report.

    Args:
        folder: for ``summary.json``, ``rows.jsonl``, ``frontier.png``, ``report.html``.
        n: test problems.

    Raises:
        ConfigError: if the folder cannot be written, or the extra `report` is missing.
    """
    require("the report", "report")
    folder = provenance.writable(folder)
    pair = load_pair("nano")
    policy = load_router("nano-ppo", threshold=1.0)
    policy.check(pair)
    problems = load_dataset("nano", split="test", limit=n)
    store = SqliteStore(folder / "steps.db")
    engine = pair.engine(backend=backend, store=store)
    setting = f"{pair.identity} {backend}"
    rows = compare(engine, problems, contenders(policy), folder, setting=setting, console=console)
    store.close()
    about = {"dataset": "nano", "pair": pair.name, "cost_unit": engine.cost.unit, **provenance.describe()}
    summary = summarise(rows, problems, models=engine.models, seed=0, about=about)
    write(folder, summary, rows)
    show(summary, folder, console)
    return summary


def compare(
    engine: Engine,
    problems: Sequence[Problem],
    field: Sequence[Contender],
    folder: Path,
    *,
    setting: str,
    console: Console,
    concurrency: int = 64,
    samples: int = 1,
    grader: Grader | None = None,
) -> list[Row]:
    """`evaluate` with a progress bar, into the folder's ``rows.jsonl``; closes the engine."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    spent = 0.0

    def advance(rows: Sequence[Row]) -> None:
        nonlocal spent
        spent += sum(row["cost"] for row in rows)
        progress.update(
            task, advance=len(rows), description=f"solving, {spent:.3g} {engine.cost.unit} so far"
        )

    try:
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as progress:
            task = progress.add_task("solving", total=len(problems) * len(field) * samples)
            work = evaluate(
                engine,
                problems,
                field,
                folder / "rows.jsonl",
                setting=setting,
                concurrency=concurrency,
                samples=samples,
                grader=grader,
                progress=advance,
            )
            return engine.run(work)
    finally:
        engine.run(engine.close())


def write(folder: Path, summary: dict[str, Any], rows: Sequence[Row]) -> None:
    """Everything a reader wants from a finished run."""
    (folder / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    report.write_report(folder, summary, rows)


def show(summary: dict[str, Any], folder: Path, console: Console) -> None:
    """The results as a person reads them."""
    large = summary["large_cost"]
    table = Table(title=f"{summary['n']} problems, accuracy and cost (cost of large-only = 100%)")
    for name in ("router", "threshold", "accuracy", "95% interval", "cost"):
        table.add_column(name, justify="left" if name == "router" else "right")
    for point in sorted(summary["points"], key=lambda p: (p["router"], p["cost"])):
        low, high = point["accuracy_ci"]
        threshold = "" if point["threshold"] is None else f"{point['threshold']:g}"
        cells = (f"{point['accuracy']:.1%}", f"{low:.1%} - {high:.1%}", f"{point['cost'] / large:.1%}")
        table.add_row(point["router"], threshold, *cells, style="bold" if point["router"] == "ppo" else "")
    console.print(table)
    for name, values in summary["metrics"].items():
        console.print(f"  {name}: area under the frontier (APGR) {_number(values['apgr'])}")
    console.print(f"Open [bold]{folder / 'report.html'}[/bold] and {folder / 'frontier.png'}.")


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
