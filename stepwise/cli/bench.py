"""``stepwise bench``: routers scored on what real models wrote, without models."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from stepwise.cli.options import Commands
from stepwise.errors import ConfigError
from stepwise.types import Problem, Router

if TYPE_CHECKING:
    from stepwise.recording.folder import Recording

VALUES = {"confidence": (0.5, 0.8, 1.05, 1.35), "entropy": (0.4, 1.15, 1.6, 2.0)}
"""Thresholds of rules, in nats, where none are given."""
COPIES = "../shared/data"
"""The folder of local copies of benchmarks, where STEPWISE_DATA names none."""


def add_parser(commands: Commands) -> None:
    command = commands.add_parser("bench", help="score a router on recorded chains of real models")
    command.add_argument("recording", metavar="DIR", help="folder of a recording")
    command.add_argument(
        "--router",
        default="confidence",
        help="confidence, entropy, a policy's folder, an installed router, or module:Class "
        "(default: %(default)s)",
    )
    command.add_argument("--threshold", type=float, action="append", help="once for each setting to score")
    command.add_argument(
        "--split", default="test", help="recorded problems to score on (default: %(default)s)"
    )
    command.add_argument(
        "--dataset",
        metavar="NAME",
        help="the recorded data set, for routers that read questions (a benchmark, or a JSON Lines file)",
    )
    command.add_argument(
        "--no-preamble",
        action="store_true",
        help="what all prompts begin with is in the server's prefix cache",
    )
    command.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> None:
    """Score each model alone and the router, and print a table.

    Raises:
        ConfigError: if the folder holds no recording, or the router has no threshold.
    """
    from stepwise.evaluation.replayed import Bench
    from stepwise.evaluation.run import Contender
    from stepwise.recording.folder import Recording
    from stepwise.report.bench_table import bench_table, remarks
    from stepwise.routers.named import check_known
    from stepwise.routers.own import is_own

    check_known(options.router)
    values = options.threshold or VALUES.get(options.router) or ([None] if is_own(options.router) else ())
    if not values:
        raise ConfigError(f"router {options.router!r} needs a --threshold.")
    recording, preamble = Recording(options.recording), not options.no_preamble
    dataset = _questions(options.dataset, options.split, recording) if options.dataset else ()
    bench = Bench(recording, options.split, preamble=preamble, dataset=dataset)
    models = bench.engine.models
    scored = [bench.replay(Contender(_router(options.router, value, models), value)) for value in values]
    rows = bench.table([bench.small, bench.large, *scored])
    name = Path(options.recording).name
    console.print(bench_table(rows, f"{name}, {options.split}: {len(bench.problems)} problems"))
    for line in remarks(rows):
        console.print(line)


def _questions(name: str, split: str, recording: Recording) -> Sequence[Problem]:
    from stepwise.data import load_dataset
    from stepwise.evaluation.replayed import limit_of

    copies = os.environ.get("STEPWISE_DATA", COPIES)
    return load_dataset(name, split=split, folder=copies, limit=limit_of(recording, split, name))


def _router(name: str, threshold: float | None, models: tuple[str, ...]) -> Router:
    from stepwise.routers import ThresholdRouter, load_router
    from stepwise.routers.named import RULES
    from stepwise.routers.own import is_own, own_router

    if is_own(name) or threshold is None:
        return own_router(name, threshold, models)
    if name in RULES:
        return ThresholdRouter(RULES[name], threshold, name, small=models[0], large=models[-1])
    return load_router(name, threshold=threshold)
