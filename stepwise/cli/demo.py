"""`stepwise demo`: the whole story in a few minutes, on real models that run on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from stepwise import load_dataset, load_pair, load_router, report
from stepwise.cli.options import Commands, positive
from stepwise.evaluation import provenance
from stepwise.evaluation.progress import compare
from stepwise.evaluation.run import Contender
from stepwise.evaluation.summary import Summary, summarise
from stepwise.extras import require
from stepwise.models.pair import DEFAULT_BACKEND
from stepwise.routers import Always, Confidence, PolicyRouter, Random, ThresholdRouter
from stepwise.store.sqlite import SqliteStore

LOCAL = ("transformers", "vllm")
MIXES = (0.1, 0.25, 0.4, 0.6, 0.8)
CONFIDENCES = (0.1, 0.3, 0.6, 0.9, 1.2, 1.6, 2.1)
COST_WEIGHTS = (0.1, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8)


def add_parser(commands: Commands) -> None:
    command = commands.add_parser("demo", help="compare routers on the built-in models and draw the frontier")
    add = command.add_argument
    add("--n", type=positive, default=300, help="test problems (default: %(default)s)")
    add("--output", default="outputs/demo", help="folder for the report (default: %(default)s)")
    add("--backend", choices=LOCAL, default=DEFAULT_BACKEND, help="runs the models (default: %(default)s)")
    command.set_defaults(run=_run)


def _run(options: argparse.Namespace, console: Console) -> None:
    run(options.output, n=options.n, backend=options.backend, console=console)
    console.print("ppo is the policy nano-ppo. Next: stepwise solve, chat and serve, each with --budget 0.4")


def contenders(policy: PolicyRouter) -> list[Contender]:
    """Small-only, large-only, two random mixes, a confidence threshold, and the learned policy."""
    return [
        Contender(Always("small")),
        Contender(Always("large")),
        *(Contender(Random(p), p) for p in MIXES),
        *(Contender(Random(p, per="problem", name="random_query"), p) for p in MIXES),
        *(Contender(ThresholdRouter(Confidence("min"), t, "confidence"), t) for t in CONFIDENCES),
        *(Contender(policy.at(t), t) for t in COST_WEIGHTS),
    ]


def run(folder: str | Path, *, n: int = 300, backend: str = "transformers", console: Console) -> Summary:
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
    report.write_run(folder, summary, rows)
    report.show(summary, folder, console)
    return summary
