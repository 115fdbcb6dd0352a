"""Train a policy on a recording, without models, and score it on questions that it has not seen.

    python -m scripts.train_recorded
    python -m scripts.train_recorded policy.look=before 'policy.features=[position,question]' preamble=false
    python -m scripts.train_recorded dataset=gsm8k anchor_count=100 'policy.features=[signals,estimates]'

The questions of the split are cut into folds. For each seed and fold PPO learns on the other folds, in the
recorded environment (`envs.recorded`), after a warm start from the best threshold rule; its own fold is then
replayed through the engine that serves, as StepBench does. Every question is scored by policies that never
saw it. A run that is killed goes on from its last fold; ``summary.json`` has the tables' numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from envs import RoutingVectorEnv
from envs.observer import Observer
from policies.reference import Reference
from policies.train import train
from scripts.evaluate import difference_of, settings_of
from scripts.program import CONFIGS, console, program
from scripts.scope.recorded import scope_of
from scripts.settings import check_counts
from scripts.stepbench import cost_of, dataset_of
from scripts.train import Policy
from stepwise.errors import ConfigError
from stepwise.evaluation import metrics, provenance
from stepwise.evaluation.replayed import Bench
from stepwise.evaluation.run import Contender
from stepwise.evaluation.summary import Difference
from stepwise.recording.folder import Recording
from stepwise.recording.replay import replay_engine
from stepwise.report.differences import difference_tables
from stepwise.report.numbers import with_interval
from stepwise.report.thresholds import legend
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
    bench = Bench(recording, cfg.split, preamble=cfg.preamble, cost=cost, dataset=dataset_of(cfg, recording))
    bench.engine = bench.engine.with_prior(prior_of(recording, bench.engine.models, cfg))
    ends = (bench.small.correct, bench.small.cost), (bench.large.correct, bench.large.cost)
    rules = {}
    for name, group in cfg.routers.items():
        scored = [bench.replay(contender) for contender in settings_of([group])]
        rules[name] = np.array([r.correct for r in scored]), np.array([r.cost for r in scored])
    provenance.same_run(output, setting_of(cfg))
    results = []
    for seed in cfg.seeds:
        ours = cross_fitted(bench, recording, cfg, output / f"seed{seed}", seed)
        results.append(result_of(ours, rules, ends, cfg, seed))
    summary = {
        "recording": Path(cfg.recording).name, "split": cfg.split, "n": len(bench.problems),
        "cost_unit": bench.engine.cost.unit, "seeds": results,
    }  # fmt: skip
    (output / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    show(summary)
    console.print(f"These numbers: [bold]{output / 'summary.json'}[/bold].")
    console.print("The folds' policies only measure. With the models at hand, train one to serve:")
    console.print(f"  {next_command(recording.about)}", soft_wrap=True)


def setting_of(cfg: DictConfig) -> Any:
    """What the folds' checkpoints depend on, but for how long they learn."""
    setting: Any = OmegaConf.to_container(cfg, resolve=True)
    for name in ("output", "routers", "thresholds", "at"):
        del setting[name]
    del setting["policy"]["total_steps"]
    anchors_drawn_by = setting.pop("seeds")[0]
    return setting, cfg.anchor_count and anchors_drawn_by


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
        console.print(f"seed {seed}, fold {fold + 1} of {cfg.folds}")
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


def result_of(
    ours: tuple[Array, Array], rules: dict[str, tuple[Array, Array]], ends: Any, cfg: DictConfig, seed: int
) -> dict[str, Any]:
    """The policy's points, costs as fractions of the large model's, and its differences from every rule."""
    area = metrics.summarise({"ours": ours}, *ends)["ours"]
    accuracy, cost = ours[0].mean(1), ours[1].mean(1) / float(np.mean(ends[1][1]))
    differences = []
    for name, theirs in rules.items():
        gaps = {
            "APGR": metrics.difference_in_apgr(ours, theirs, *ends),
            f"accuracy at {cfg.at:.0%} of large-only cost": metrics.difference_at_cost(
                ours, theirs, cfg.at, ends[1]
            ),
        }
        differences += [difference_of(f"seed {seed}", name, what, gap) for what, gap in gaps.items()]
    points = [
        {"threshold": threshold, "accuracy": round(float(a), 4), "cost": round(float(c), 4)}
        for threshold, a, c in zip(cfg.thresholds, accuracy, cost, strict=True)
    ]
    return {
        "seed": seed, "apgr": area.apgr, "apgr_ci": area.apgr_ci, "points": points,
        "differences": msgspec.to_builtins(differences),
    }  # fmt: skip


def show(summary: dict[str, Any]) -> None:
    """The tables that a person reads."""
    title = (
        f"{summary['recording']}, {summary['split']}: {summary['n']} questions, each routed by a policy that "
        f"has not seen it ({summary['cost_unit']} of the large model alone = 100%)"
    )
    table = Table("seed", "APGR (95%)", "threshold", "accuracy", "cost", title=title)
    for result in summary["seeds"]:
        names = str(result["seed"]), with_interval(result["apgr"], result["apgr_ci"])
        for point in result["points"]:
            numbers = f"{point['threshold']:g}", f"{point['accuracy']:.1%}", f"{point['cost']:.1%}"
            table.add_row(*names, *numbers)
            names = "", ""
    console.print(table)
    console.print(legend(["ppo"]))
    differences = [line for result in summary["seeds"] for line in result["differences"]]
    for compared in difference_tables(msgspec.convert(differences, list[Difference])):
        console.print(compared)


def next_command(about: Mapping[str, Any]) -> str:
    """What trains a policy that can be served, where its models can be run."""
    known = {kind: (CONFIGS / kind / f"{about[kind]}.yaml").is_file() for kind in ("pair", "dataset")}
    pair = about["pair"] if known["pair"] else "FILE.yaml"
    dataset = f"dataset={about['dataset']}" if known["dataset"] else "dataset=FILE.jsonl"
    return f"python -m scripts.train pair={pair} {dataset}"


if __name__ == "__main__":
    main()
