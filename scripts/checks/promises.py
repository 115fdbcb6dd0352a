"""Monte Carlo check of the calibration's promises on a policy's recorded results.

    python -m scripts.checks.promises artifact=nano-ppo
    python -m scripts.checks.promises recording=recordings/gsm8k-qwen_coder router=confidence n=150

Takes the recorded results, or a router replayed on recorded trees, as the whole population, so that the
truth is known, draws many calibration splits from it with replacement, calibrates on each, and counts how
often a promise is broken: at most delta of the time. Also how much more the promised threshold spends than
the cheapest one that truly keeps the promise.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from omegaconf import DictConfig
from rich.progress import track
from rich.table import Table

from scripts.evaluate import settings_of
from scripts.program import console, program, save_config
from scripts.stepbench import dataset_of, prices_of
from stepwise import load_router
from stepwise.calibration import CalibrationRecord, calibrate
from stepwise.errors import ConfigError, InfeasibleTarget
from stepwise.evaluation import provenance
from stepwise.evaluation.replayed import Bench
from stepwise.recording.folder import Recording


@dataclass
class Promises:
    """Which promises are checked on whose recorded results."""

    artifact: str = "outputs/train/policy"  # its recorded results are the population
    recording: str | None = None  # or the questions of a recording, routed by ``router``
    split: str = "test"
    router: Any = None  # one of configs/router
    dataset: Any = None  # as of StepBench
    preamble: bool = True  # as of StepBench; likewise prices
    prices: Any = None
    output: str = "outputs/check_promises"
    n: int = 1000
    trials: int = 1000
    seed: int = 0
    losses: list[float] = field(default_factory=lambda: [0.02, 0.05, 0.1])
    budgets: list[float] = field(default_factory=lambda: [0.3, 0.5])
    deltas: list[float] = field(default_factory=lambda: [0.02, 0.05, 0.1])
    methods: list[str] = field(default_factory=lambda: ["ltt", "hoeffding-bentkus"])


@program("checks.promises", Promises)
def main(cfg: DictConfig) -> None:
    output = provenance.writable(cfg.output)
    save_config(cfg, output)
    population = of_recording(cfg) if cfg.recording else of_policy(cfg.artifact)
    targets = [("max_accuracy_loss", value) for value in cfg.losses] + [("budget", b) for b in cfg.budgets]
    cases = [(*target, delta, method) for target in targets for delta in cfg.deltas for method in cfg.methods]
    lines = [
        check(population, *case, n=cfg.n, trials=cfg.trials, seed=cfg.seed)
        for case in track(cases, description="resampling", console=console)
    ]
    _show(lines, cfg)
    record = {"population": population.summary(), "checks": lines, **provenance.describe()}
    (output / "summary.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def of_policy(artifact: str) -> CalibrationRecord:
    """The results that a policy was calibrated on."""
    population = load_router(artifact, threshold=1.0).artifact.record
    if population is None:
        raise ConfigError(f"artifact: {artifact!r} has no calibration; run scripts.calibrate first.")
    return population


def of_recording(cfg: DictConfig) -> CalibrationRecord:
    """A router's results on recorded questions; chains that leave the recording count as wrong."""
    if cfg.router is None:
        raise ConfigError("router: name the one that is replayed on the recording (router=confidence).")
    recording, cost = Recording(cfg.recording), prices_of(cfg.prices)
    bench = Bench(recording, cfg.split, preamble=cfg.preamble, cost=cost, dataset=dataset_of(cfg, recording))
    runs = [bench.replay(contender) for contender in settings_of([cfg.router])]
    return CalibrationRecord(
        thresholds=np.array([run.contender.threshold for run in runs]),
        correct=np.array([run.correct for run in runs], bool),
        cost=np.array([run.cost for run in runs]),
        large_correct=bench.large.correct.astype(bool),
        large_cost=bench.large.cost,
        groups=np.array([cfg.split] * len(bench.problems)),
        unit=bench.engine.cost.unit,
        split=cfg.split,
    )


def check(
    population: CalibrationRecord,
    target: str,
    value: float,
    delta: float,
    method: str,
    *,
    n: int,
    trials: int,
    seed: int,
) -> dict[str, Any]:  # fmt: skip
    """One target on many calibration splits of ``n`` problems. ``best`` is None where no threshold truly
    keeps it; ``least`` is the nearest that one comes."""
    rng = np.random.default_rng(seed)
    loss, cost = population.losses.mean(1), population.cost_share
    risk, limit = (loss, value) if target == "max_accuracy_loss" else (cost, value)
    wanted: dict[str, Any] = {target: value, "delta": delta, "method": method}
    broken, infeasible, chosen = 0, 0, []
    for _ in range(trials):
        split = population.subset(rng.integers(0, population.n, n))
        try:
            at = int(np.searchsorted(population.thresholds, calibrate(split, **wanted).threshold))
        except InfeasibleTarget:
            infeasible += 1
            continue
        broken += bool(risk[at] > limit)
        chosen.append(at)
    true = np.flatnonzero(risk <= limit)
    best = None
    if true.size:
        best = float(cost[true].min() if target == "max_accuracy_loss" else population.accuracy[true].max())
    got = cost[chosen] if target == "max_accuracy_loss" else population.accuracy[chosen]
    return {
        "target": target, "value": value, "delta": delta, "method": method, "n": n, "trials": trials,
        "broken": broken / trials, "infeasible": infeasible / trials,
        "best": best, "got": float(got.mean()) if chosen else None, "least": float(risk.min()),
    }  # fmt: skip


def _show(lines: list[dict[str, Any]], cfg: DictConfig) -> None:
    table = Table(
        title=f"{cfg.trials} calibration splits of {cfg.n} problems; 'got' against 'best' is the cost share "
        "for a loss, the accuracy for a budget"
    )
    for name in (
        "promise",
        "delta",
        "method",
        "promises broken",
        "infeasible",
        "best true",
        "got on average",
    ):
        table.add_column(name)
    for line in lines:
        best, got = ("–" if line[name] is None else f"{line[name]:.3f}" for name in ("best", "got"))
        table.add_row(
            _promise(line["target"], line["value"]), f"{line['delta']:g}", line["method"],
            f"{line['broken']:.1%}", f"{line['infeasible']:.1%}", best, got,
        )  # fmt: skip
    console.print(table)
    beyond = {(line["target"], line["value"]): line["least"] for line in lines if line["best"] is None}
    for (target, value), least in beyond.items():
        promise = _promise(target, value)
        console.print(f"No threshold can promise {promise}: the least at any of them is {least:.3f}.")


def _promise(target: str, value: float) -> str:
    return f"{'loss' if target == 'max_accuracy_loss' else 'cost'} ≤ {value:g}"


if __name__ == "__main__":
    main()
