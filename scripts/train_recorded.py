"""Train a policy on a recording, without models, and score it on questions that it has not seen.

    python -m scripts.train_recorded
    python -m scripts.train_recorded policy.look=before 'policy.features=[position,question]' preamble=false
    python -m scripts.train_recorded dataset=gsm8k anchor_count=100 'policy.features=[signals,estimates]'

The questions of the split are cut into folds. For each seed and fold PPO learns on the other folds, in the
recorded environment (`envs.recorded`), after a warm start from the best threshold rule; its own fold is then
replayed through the engine that serves, as StepBench does. Every question is scored by policies that never
saw it. The last line is one JSON object.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from envs import RoutingVectorEnv
from envs.observer import Observer
from policies.reference import Reference
from policies.train import train
from scripts.evaluate import settings_of
from scripts.program import console, program
from scripts.scope.recorded import scope_of
from scripts.settings import check_counts
from scripts.stepbench import cost_of
from scripts.train import Policy
from stepwise.errors import ConfigError
from stepwise.evaluation import metrics, provenance
from stepwise.evaluation.replayed import Bench
from stepwise.evaluation.run import Contender
from stepwise.recording.folder import Recording
from stepwise.recording.replay import replay_engine
from stepwise.routers import PolicyArtifact, PolicyRouter
from stepwise.scope.routers import ScopePrior

Array = NDArray[np.float64]


@dataclass
class TrainRecorded:
    """The settings of a training on a recording."""

    recording: str = "recordings/gsm8k-qwen_coder"
    split: str = "test"
    dataset: Any = None
    preamble: bool = True
    prices: Any = None  # as of StepBench
    seconds: str | None = None  # as of StepBench
    policy: Policy = field(default_factory=Policy)
    output: str = "outputs/train_recorded"
    folds: int = 5
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    thresholds: list[float] = field(default_factory=lambda: [0.0, 0.1, 0.3, 0.6, 1.0, 1.6, 2.5])
    routers: dict[str, Any] = field(default_factory=dict)  # rules to compare with
    anchor_count: int = 0  # so many recorded questions of other splits let SCOPE estimate; 0: no estimates
    at: float = 1.0  # share of the large model's cost at which accuracies are compared


@program("train_recorded", TrainRecorded)
def main(cfg: DictConfig) -> None:
    check_counts(cfg, "policy.total_steps", "policy.num_envs")
    output, recording = provenance.writable(cfg.output), Recording(cfg.recording)
    cost = cost_of(cfg)
    dataset = instantiate(cfg.dataset, split=cfg.split, limit=1_000_000) if cfg.dataset else ()
    bench = Bench(recording, cfg.split, preamble=cfg.preamble, cost=cost, dataset=dataset)
    bench.engine = bench.engine.with_prior(prior_of(recording, bench.engine.models, cfg))
    ends = (bench.small.correct, bench.small.cost), (bench.large.correct, bench.large.cost)
    rules = {}
    for name, group in cfg.routers.items():
        scored = [bench.replay(contender) for contender in settings_of([group])]
        rules[name] = np.array([r.correct for r in scored]), np.array([r.cost for r in scored])
    results = []
    for seed in cfg.seeds:
        ours = cross_fitted(bench, recording, cfg, output / f"seed{seed}", seed)
        results.append(report(ours, rules, ends, seed, cfg.at))
    summary = {"recording": Path(cfg.recording).name, "n": len(bench.problems), "seeds": results}
    (output / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(summary))


def prior_of(recording: Recording, models: tuple[str, ...], cfg: DictConfig) -> ScopePrior | None:
    """SCOPE's estimates, from what the models did on questions of other splits; None without ``anchors``.

    Raises:
        ConfigError: if the questions' texts are not at hand, or too few are recorded.
    """
    if not cfg.anchor_count:
        return None
    if cfg.dataset is None:
        raise ConfigError(
            "anchor_count: estimates need questions: name the recorded data set (dataset=gsm8k)."
        )
    others = [split for split in ("train", "calibration", "test") if split != cfg.split]
    scope = scope_of(recording, models, cfg.dataset, cfg.anchor_count, others, cfg.prices, cfg.seeds[0])
    return ScopePrior(scope, models)


def cross_fitted(
    bench: Bench, recording: Recording, cfg: DictConfig, output: Path, seed: int
) -> tuple[Array, Array]:
    """Correct and cost [thresholds, problems], each problem by a policy that was trained on other folds."""
    correct, cost = np.zeros((2, len(cfg.thresholds), len(bench.problems)))
    for fold, (seen, unseen) in enumerate(split_in_folds(len(bench.problems), cfg.folds, seed)):
        artifact = fit(bench, recording, cfg, output / f"fold{fold}", seed, seen)
        held = bench.restricted(unseen.tolist())
        for i, threshold in enumerate(cfg.thresholds):
            replayed = held.replay(Contender(PolicyRouter(artifact, threshold), threshold))
            correct[i, unseen], cost[i, unseen] = replayed.correct, replayed.cost
    return correct, cost


def split_in_folds(problems: int, folds: int, seed: int) -> Iterator[tuple[Any, Any]]:
    """(indices to learn from, indices to score) of each fold."""
    order = np.random.default_rng(seed).permutation(problems)
    for unseen in np.array_split(order, folds):
        yield np.setdiff1d(order, unseen), np.sort(unseen)


def fit(
    bench: Bench, recording: Recording, cfg: DictConfig, output: Path, seed: int, seen: Sequence[int]
) -> PolicyArtifact:
    """PPO on some of the problems."""
    output.mkdir(parents=True, exist_ok=True)
    policy: Any = OmegaConf.to_container(cfg.policy, resolve=True)
    engine = replay_engine(recording, preamble=cfg.preamble, cost=cost_of(cfg), bounded=True)
    engine = engine.with_prior(bench.engine.prior)
    unit = float(bench.large.cost[seen].mean())
    env = RoutingVectorEnv(
        engine, [bench.problems[i] for i in seen],
        num_envs=policy["num_envs"], look=policy["look"], cost_weight=tuple(policy["cost_weight"]),
        cost_scale=unit, observer=Observer.of(policy["features"]), verify=policy["verify"],
    )  # fmt: skip
    pair: Any = SimpleNamespace(name=recording.about["pair"], identity="recorded")
    large = Reference(unit, float(bench.large.correct[seen].mean()), len(seen))
    return train(env, pair, policy, output=output, seed=seed, every=1_000_000, reference=large)


def report(
    ours: tuple[Array, Array], rules: dict[str, tuple[Array, Array]], ends: Any, seed: int, at: float
) -> dict[str, Any]:
    """The policy's points and its differences from every rule, paired over problems."""
    unit = float(np.mean(ends[1][1]))
    points = list(zip((ours[1].mean(1) / unit).round(4), ours[0].mean(1).round(4), strict=True))
    area = metrics.summarise({"ours": ours}, *ends)["ours"]
    lines: dict[str, Any] = {}
    for name, theirs in rules.items():
        lines[name] = {
            "apgr": [round(x, 4) for x in metrics.difference_in_apgr(ours, theirs, *ends)],
            "accuracy": [round(x, 4) for x in metrics.difference_at_cost(ours, theirs, at, ends[1])],
        }
    console.print(f"seed {seed}: APGR {area.apgr} {area.apgr_ci}; cost, accuracy: {points}; less: {lines}")
    return {"seed": seed, "apgr": area.apgr, "apgr_ci": area.apgr_ci, "points": points, "less": lines}


if __name__ == "__main__":
    main()
