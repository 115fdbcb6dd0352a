"""SCOPE on real models of a recording: fingerprints on recorded answers, choices scored on other questions.

    python -m scripts.scope.recorded dataset=gsm8k
    python -m scripts.scope.recorded dataset=gsm8k +router@seeded.confidence=confidence

Anchors are questions of the calibration and training parts, which every model answered alone; their tokens
are measured. Estimates and choices are for the test part. Routers in ``seeded`` are scored as they are and
with their first step by the model that SCOPE chooses.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.table import Table

from scripts.evaluate import settings_of
from scripts.program import console, program
from scripts.stepbench import prices_of
from stepwise.data import EVERYTHING
from stepwise.engine.cost import Price
from stepwise.errors import ConfigError
from stepwise.evaluation.metrics import interval, paired_difference, summarise
from stepwise.evaluation.replayed import Bench
from stepwise.evaluation.run import Contender
from stepwise.recording.folder import Recording
from stepwise.recording.replay import recorded
from stepwise.report.numbers import with_interval
from stepwise.scope import AnchorSet, Fingerprint, FingerprintStore, Scope
from stepwise.scope.routers import ScopeRouter, Seeded
from stepwise.types import Problem


@dataclass
class ScopeRecorded:
    """What is asked of a recording."""

    recording: str = "recordings/gsm8k-qwen_coder"
    dataset: Any = None
    anchor_count: int = 100
    splits: list[str] = field(default_factory=lambda: ["calibration", "train"])
    preamble: bool = True
    prices: Any = None  # as of StepBench
    alphas: list[float] = field(default_factory=lambda: [0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9, 1.0])
    seeded: dict[str, Any] = field(default_factory=dict)  # groups of configs/router
    seed: int = 0  # draws the anchors


@program("scope.recorded", ScopeRecorded)
def main(cfg: DictConfig) -> None:
    if cfg.dataset is None:
        raise ConfigError("dataset: name the recorded data set, whose questions the anchors are.")
    recording, cost = Recording(cfg.recording), prices_of(cfg.prices)
    test = instantiate(cfg.dataset, split="test", limit=EVERYTHING)
    bench = Bench(recording, preamble=cfg.preamble, cost=cost, dataset=test)
    models = bench.engine.models
    scope = scope_of(recording, models, cfg.dataset, cfg.anchor_count, cfg.splits, cfg.prices, cfg.seed)
    estimates = [scope.estimate(problem.question, models) for problem in bench.problems]
    console.print(quality(bench, estimates, cfg.seed))
    summary = {
        "n": len(bench.problems),
        "anchors": cfg.anchor_count,
        "rows": choices(bench, scope, cfg),
        "seeded": seedings(bench, scope, cfg) if cfg.seeded else [],
    }
    print(json.dumps(summary))


def scope_of(
    recording: Recording,
    models: Sequence[str],
    dataset: Any,
    anchors: int,
    splits: Sequence[str],
    prices: Any,
    seed: int,
) -> Scope:
    """A `Scope` that knows recorded models by their chains alone, on anchors drawn from ``splits``.

    Args:
        dataset: the configuration of the recorded data set.
        prices: by model, as of StepBench; None for FLOPs.

    Raises:
        ConfigError: if fewer questions than ``anchors`` are recorded there.
    """
    chosen = anchor_set(recording, models, dataset, anchors, splits, seed)
    store = FingerprintStore(":memory:")
    for model in models:
        price = Price(**prices[model]) if prices else flops(recording, model)
        store.add(fingerprint(recording, model, chosen, price))
    return Scope(anchors=chosen, fingerprints=store)


def anchor_set(
    recording: Recording, models: Sequence[str], dataset: Any, anchors: int, splits: Sequence[str], seed: int
) -> AnchorSet:
    """Questions that all models have answered alone, drawn from the splits together."""
    answered: list[Problem] = []
    alone = {(problem, router) for problem, router, _ in recording.tree.chains}
    for split in splits:
        for problem in instantiate(dataset, split=split, limit=EVERYTHING):
            if recorded(recording.tree, problem, split) and all(
                (problem.id, model) in alone for model in models
            ):
                answered.append(problem)
    if len(answered) < anchors:
        raise ConfigError(f"anchor_count: {anchors} are asked for and {len(answered)} are recorded.")
    order = np.random.default_rng(seed).permutation(len(answered))[:anchors]
    return AnchorSet([answered[i] for i in sorted(order)])


def flops(recording: Recording, model: str) -> Price:
    """A price such that costs come out in FLOPs."""
    each = 2e6 * recording.about["models"][model]["parameters"]
    return Price(input=each, output=each)


def fingerprint(recording: Recording, model: str, anchors: AnchorSet, price: Price) -> Fingerprint:
    """What the model did on the anchors, as it was recorded."""
    chains = [recording.tree.chains[problem.id, model, None] for problem in anchors]
    return Fingerprint(
        model=model,
        anchor_ids=[problem.id for problem in anchors],
        correct=[float(chain.correct) for chain in chains],
        tokens=[chain.tokens[model] for chain in chains],
        prompt_tokens=[recording.tree.questions[problem.id].prompt[model] for problem in anchors],
        price=price,
        anchors=anchors.digest,
    )


def quality(bench: Bench, estimates: Sequence[Any], seed: int) -> Table:
    """How good the estimates are: AUC of p(correct), its mean against the truth, and the tokens' error."""
    table = Table("model", "right", "expected", "AUC (95%)", "tokens: error of the estimate, of the mean")
    for i, truth in ((0, bench.small), (-1, bench.large)):
        p = np.array([row[i].p_correct for row in estimates])
        right = truth.correct
        draws = np.random.default_rng(seed).integers(0, len(p), (1000, len(p)))
        low, high = np.nanpercentile([auc(p[d], right[d]) for d in draws], (2.5, 97.5))
        chains = bench.chains(bench.engine.models[i])
        tokens = np.array([sum(chain.tokens.values()) for chain in chains])
        error = np.abs(np.array([row[i].tokens for row in estimates]) - tokens).mean()
        blind = np.abs(np.median(tokens) - tokens).mean()
        table.add_row(
            bench.engine.models[i], f"{right.mean():.1%}", f"{p.mean():.1%}",
            f"{auc(p, right):.3f} ({low:.3f} to {high:.3f})", f"{error:.1f}, {blind:.1f}",
        )  # fmt: skip
    return table


def auc(score: Any, right: Any) -> float:
    """Probability that a right answer scores above a wrong one, ties counted half."""
    above = score[right == 1][:, None] - score[right == 0][None, :]
    return float(np.mean((above > 0) + 0.5 * (above == 0))) if above.size else float("nan")


def choices(bench: Bench, scope: Scope, cfg: DictConfig) -> list[dict[str, Any]]:
    """The model that SCOPE chooses writes the whole chain, at each alpha."""
    rows, scored = [], []
    table = Table("alpha", "large", "right (95%)", "cost", "less mixing at random at this cost (95%)")
    small, large = bench.small, bench.large
    for alpha in cfg.alphas:
        run = bench.replay(Contender(ScopeRouter(scope, bench.engine.models, alpha), alpha))
        scored.append(run)
        share = (run.cost.mean() - small.cost.mean()) / (large.cost.mean() - small.cost.mean())
        mixed = (1 - share) * small.correct + share * large.correct
        gain = paired_difference(run.correct, mixed, seed=cfg.seed)
        low, high = interval(run.correct, seed=cfg.seed)
        chosen = float(np.mean(run.cost == large.cost))
        cost = float(run.cost.mean() / large.cost.mean())
        table.add_row(
            f"{alpha:g}", f"{chosen:.0%}", f"{run.correct.mean():.1%} ({low:.3f} to {high:.3f})",
            f"{cost:.1%}", f"{gain[0]:+.1%} ({gain[1]:+.3f} to {gain[2]:+.3f})",
        )  # fmt: skip
        rows.append({"alpha": alpha, "accuracy": float(run.correct.mean()), "cost": cost, "gain": gain})
    console.print(table)
    curve = np.array([r.correct for r in scored]), np.array([r.cost for r in scored])
    ends = (small.correct, small.cost), (large.correct, large.cost)
    area = summarise({"scope": curve}, *ends, seed=cfg.seed)["scope"]
    console.print(f"APGR {with_interval(area.apgr, area.apgr_ci)}; recording {Path(cfg.recording).name}")
    return rows


def seedings(bench: Bench, scope: Scope, cfg: DictConfig) -> list[dict[str, Any]]:
    """Every router as it is and, at each alpha, with its first step by the model that SCOPE chooses."""
    rows = []
    title = "less the router as it is, paired (95%)"
    table = Table(
        "router", "setting", "alpha", "right", "cost", "coverage", f"right, {title}", f"cost, {title}"
    )
    unit = float(bench.large.cost.mean())
    for contender in settings_of(cfg.seeded.values()):
        plain = bench.replay(contender)
        for alpha in [None, *cfg.alphas]:
            run = plain if alpha is None else bench.replay(seeded(contender, scope, bench, alpha))
            right = paired_difference(run.correct, plain.correct, seed=cfg.seed)
            cost = paired_difference(run.cost / unit, plain.cost / unit, seed=cfg.seed)
            table.add_row(
                f"{contender.router.name} {contender.threshold}", f"{alpha}", f"{run.correct.mean():.1%}",
                f"{run.cost.mean() / unit:.1%}", f"{run.coverage:.1%}", *map(points, (right, cost)),
            )  # fmt: skip
            rows.append(
                {
                    "router": contender.router.name, "threshold": contender.threshold, "alpha": alpha,
                    "accuracy": float(run.correct.mean()), "cost": float(run.cost.mean() / unit),
                    "coverage": run.coverage, "right_less": right, "cost_less": cost,
                }
            )  # fmt: skip
    console.print(table)
    return rows


def seeded(contender: Contender, scope: Scope, bench: Bench, alpha: float) -> Contender:
    """A router whose first step SCOPE decides."""
    router = Seeded(contender.router, ScopeRouter(scope, bench.engine.models, alpha))
    return Contender(router, contender.threshold)


def points(difference: tuple[float, float, float]) -> str:
    """A paired difference in percentage points."""
    mean, low, high = (100 * value for value in difference)
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"


if __name__ == "__main__":
    main()
