"""Find the threshold that keeps a promise on cost, accuracy or both, on the calibration split.

    python -m scripts.calibrate budget=0.4 policy=outputs/train/policy
    python -m scripts.calibrate budget=null max_accuracy_loss=0.02 delta=0.05
    python -m scripts.calibrate budget=0.4 router=confidence 'router.values=[0.3,0.6,0.9,1.2,1.6,2.1]'

Writes a policy's results by threshold into the policy's artifact, so that ``stepwise.load_router(policy,
budget=..., max_accuracy_loss=...)`` serves any target that they support. The thresholds that are tried are
those that the training chose on its validation problems. A rule of ``configs/router`` has no artifact: the
threshold that is printed is the one to give it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.table import Table

from scripts.cluster import solver_of
from scripts.evaluate import settings_of
from scripts.program import console, program, save_config
from scripts.settings import Routing
from stepwise import load_router
from stepwise.calibration import Calibration, CalibrationRecord, calibrate, check_targets
from stepwise.data.splits import check_unseen, fingerprints
from stepwise.errors import ConfigError
from stepwise.evaluation import provenance
from stepwise.evaluation.progress import compare
from stepwise.evaluation.run import Contender
from stepwise.evaluation.summary import table
from stepwise.models.pair import Pair
from stepwise.routers import Always, PolicyRouter
from stepwise.routers.named import RULES
from stepwise.routers.roles import in_pool

THRESHOLDS = (-5, 0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.35, 1.5, 1.7, 2, 3, 5)
"""Of policies whose training chose none."""


@dataclass
class Calibrate(Routing):
    """The settings of a calibration."""

    budget: float | None = 0.4  # expected cost as a fraction of large-only; null for none
    max_accuracy_loss: float | None = None  # share of problems that only the large model gets right
    delta: float = 0.1  # probability that the promise fails
    method: str = "ltt"  # ltt, hoeffding-bentkus or crc
    artifact: str = (
        "outputs/train/policy"  # or policy=FOLDER: folder of the policy; its calibration is written there
    )
    output: str = "outputs/calibrate"
    n: int = 1000  # problems of the calibration split
    scope: Any = None
    router: Any = None  # one of configs/router whose knob is a threshold, in the place of a policy
    concurrency: int = 128  # chains in flight, on every worker of a cluster
    cluster: Any = None
    thresholds: list[float] | None = None  # null: those that the training chose on its validation problems


@program("calibrate", Calibrate)
def main(cfg: DictConfig) -> None:
    check_targets(**targets(cfg))
    output = provenance.writable(cfg.output)
    save_config(cfg, output)
    pair = instantiate(cfg.pair)
    problems = instantiate(cfg.dataset, split="calibration", limit=cfg.n)
    policy = None if cfg.router else opened(cfg, pair)
    if policy is not None:
        check_unseen(problems, learnt_from(policy))
    solver, concurrency = solver_of(cfg, pair)
    about = solver.about
    reference = Contender(Always(about.models[-1]))
    field = [reference, *(rules(cfg, about.models) if policy is None else at_thresholds(cfg, policy))]
    setting = f"{pair.identity} {cfg.backend} {about.prior}".rstrip()
    rows = compare(solver, problems, field, output, setting=setting, console=console, concurrency=concurrency)
    correct, cost = table(rows, problems, "correct"), table(rows, problems, "cost")
    keys = [contender.key for contender in field[1:]]
    lengths = {row.problem: len(row.steps) for row in rows if row.router == reference.router.name}
    record = CalibrationRecord(
        thresholds=np.array([contender.threshold for contender in field[1:]], float),
        correct=np.stack([correct[key] for key in keys]).astype(bool),
        cost=np.stack([cost[key] for key in keys]),
        large_correct=correct[reference.key].astype(bool),
        large_cost=cost[reference.key],
        groups=by_length([lengths[p.id] for p in problems]),
        unit=about.unit,
        split=hashlib.sha256("".join(p.id for p in problems).encode()).hexdigest()[:16],
    )
    promise = calibrate(record, **targets(cfg))  # one that is refused leaves the policy as it was
    if policy is not None:
        seen = {**learnt_from(policy), "calibration": fingerprints(problems)}
        card = {**policy.artifact.card, "seen": seen}
        replace(policy.artifact, record=record, card=card).save(cfg.artifact)
    _report(record, promise, output)
    name = field[1].router.name
    if policy is None and name in RULES:
        console.print(f"next: stepwise serve --router {name} --threshold {promise.threshold:g}")


def opened(cfg: DictConfig, pair: Pair) -> PolicyRouter:
    """The policy, which has to fit the pair."""
    policy = load_router(cfg.artifact, threshold=1.0)
    policy.check(pair, cfg.models, unit=pair.cost_model(cfg.cost).unit)
    return policy


def learnt_from(policy: PolicyRouter) -> dict[str, Any]:
    """Hashes of the questions that the policy knows, by use; an earlier calibration is no such use."""
    return {use: hashes for use, hashes in policy.seen.items() if use != "calibration"}


def at_thresholds(cfg: DictConfig, policy: PolicyRouter) -> list[Contender]:
    """The policy at every threshold that is tried.

    They come from other questions than the calibration's: with a list that depended on these no promise would
    hold.
    """
    thresholds = sorted(cfg.thresholds or policy.artifact.card.get("thresholds") or THRESHOLDS)
    return [Contender(policy.at(t), t) for t in thresholds]


def rules(cfg: DictConfig, models: Sequence[str]) -> list[Contender]:
    """A rule at every value of its threshold, from the least on, which sends most steps to the large model.

    Raises:
        ConfigError: if its knob is another.
    """
    if cfg.router.get("knob") != "threshold":
        raise ConfigError(
            f"router: only a threshold can be calibrated; this router's knob is {cfg.router.get('knob')}."
        )
    made = sorted(settings_of([cfg.router]), key=lambda contender: contender.threshold or 0.0)
    return [Contender(in_pool(contender.router, models), contender.threshold) for contender in made]


def targets(cfg: DictConfig) -> dict[str, Any]:
    return {name: cfg[name] for name in ("budget", "max_accuracy_loss", "delta", "method")}


def by_length(steps: Sequence[int]) -> NDArray[np.str_]:
    """A label a problem: the third it falls in by the number of steps of large-only's chain."""
    counts = np.array(steps)
    low, high = (int(edge) for edge in np.quantile(counts, (1 / 3, 2 / 3), method="lower"))
    labels = (f"up to {low} steps", f"{low + 1} to {high} steps", f"more than {high} steps")
    return np.asarray(np.array(labels)[(counts > low).astype(int) + (counts > high)])


def _report(record: CalibrationRecord, promise: Calibration, output: Path) -> None:
    groups = record.by_group(promise.threshold)
    summary = {**asdict(promise), "groups": groups, "curve": record.summary(), **provenance.describe()}
    (output / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    sure = "in expectation" if promise.delta is None else f"with probability {1 - promise.delta:.0%}"
    goals = [f"cost at most {promise.budget:.0%} of large-only"] if promise.budget else []
    goals += [f"accuracy loss at most {promise.max_accuracy_loss:.1%}"] if promise.max_accuracy_loss else []
    console.print(f"{' and '.join(goals)} ({sure}): threshold {promise.threshold:g}")
    lines = Table("problems", "n", "accuracy", "loss against large-only", "cost")
    everything = {"group": "all", "n": promise.n, **asdict(promise)}
    for line in [*groups, everything]:
        shares = (f"{line[name]:.1%}" for name in ("accuracy", "accuracy_loss", "cost"))
        lines.add_row(line["group"], str(line["n"]), *shares)
    console.print(lines)


if __name__ == "__main__":
    main()
