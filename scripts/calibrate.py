"""Find the threshold that keeps a policy's cost within a budget, on the calibration split.

    python -m scripts.calibrate budget=0.4 artifact=outputs/train/policy

Writes the whole curve (accuracy and cost by threshold) into the policy's artifact, so that
``stepwise.load_router(policy, budget=...)`` serves any budget that it reaches.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import hydra
import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from scripts import console, guarded
from stepwise import load_router, provenance
from stepwise.calibration import Curve, measure_curve
from stepwise.demo import compare
from stepwise.errors import ConfigError
from stepwise.evaluation import Contender, table
from stepwise.routers import Always
from stepwise.store import SqliteStore


@hydra.main(version_base=None, config_path="../configs", config_name="calibrate")
@guarded
def main(cfg: DictConfig) -> None:
    if not 0.0 < cfg.budget <= 1.0:
        raise ConfigError(f"budget must lie in (0, 1] (a fraction of large-only cost), not {cfg.budget:g}.")
    output = provenance.writable(cfg.output)
    OmegaConf.save(cfg, output / "config.yaml", resolve=True)
    pair = instantiate(cfg.pair)
    router = load_router(cfg.artifact, threshold=1.0)
    router.artifact.check_pair(pair.name, pair.fingerprint)
    problems = instantiate(cfg.dataset, split="calibration", limit=cfg.n)
    engine = pair.engine(backend=cfg.backend, cost=cfg.cost, store=SqliteStore(cfg.store))
    reference = Contender(Always(engine.models[-1]))
    field = [reference, *(Contender(router.at(t), t) for t in sorted(cfg.thresholds))]
    setting = f"{pair.fingerprint} {cfg.backend}"
    rows = compare(
        engine, problems, field, output, setting=setting, console=console, concurrency=cfg.concurrency
    )
    correct, cost = table(rows, problems, "correct"), table(rows, problems, "cost")
    keys = [contender.key for contender in field[1:]]
    split = hashlib.sha256("".join(p.id for p in problems).encode()).hexdigest()[:16]
    curve = measure_curve(
        sorted(cfg.thresholds),
        np.stack([correct[key] for key in keys]),
        np.stack([cost[key] for key in keys]),
        cost[reference.key],
        split,
    )
    replace(router.artifact, curve=curve).save(cfg.artifact)
    _report(curve, cfg.budget, output)


def _report(curve: Curve, budget: float, output: Path) -> None:
    threshold = curve.threshold_for(budget)
    at = curve.thresholds.index(threshold)
    chosen = {
        "budget": budget,
        "threshold": threshold,
        "cost": curve.cost[at],
        "cost_upper": curve.cost_upper[at],
        "accuracy": curve.accuracy[at],
        "n": curve.n,
    }
    record = {**chosen, "curve": asdict(curve), **provenance.describe()}
    (output / "summary.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    console.print(
        f"budget {budget:g}: threshold {threshold:g} costs {curve.cost[at]:.3f} of large-only on {curve.n} "
        f"calibration problems (95% bound {curve.cost_upper[at]:.3f}), accuracy {curve.accuracy[at]:.3f}"
    )


if __name__ == "__main__":
    main()
