"""SCOPE on real models of a recording: fingerprints on recorded answers, choices scored on other questions.

    python -m scripts.scope.recorded dataset=gsm8k

Anchors are questions of the calibration and training parts, which every model answered alone; their tokens
are measured. Estimates and choices are for the test part.
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

from scripts.program import console, program
from scripts.settings import EVERYTHING
from scripts.stepbench import prices_of
from stepwise.engine.cost import Price
from stepwise.errors import ConfigError
from stepwise.evaluation.metrics import interval, paired_difference, summarise
from stepwise.evaluation.replayed import Bench
from stepwise.evaluation.run import Contender
from stepwise.recording.folder import Recording
from stepwise.recording.replay import recorded
from stepwise.scope import AnchorSet, Fingerprint, FingerprintStore, Scope
from stepwise.scope.routers import ScopeRouter
from stepwise.types import Problem


@dataclass
class ScopeRecorded:
    """What is asked of a recording."""

    recording: str = "recordings/gsm8k-qwen_coder"
    dataset: Any = None
    anchors: int = 100
    splits: list[str] = field(default_factory=lambda: ["calibration", "train"])
    preamble: bool = True
    prices: Any = None  # as of StepBench
    alphas: list[float] = field(default_factory=lambda: [0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9, 1.0])
    seed: int = 0  # draws the anchors


@program("scope.recorded", ScopeRecorded)
def main(cfg: DictConfig) -> None:
    if cfg.dataset is None:
        raise ConfigError("dataset: name the recorded data set, whose questions the anchors are.")
    recording, cost = Recording(cfg.recording), prices_of(cfg.prices)
    anchors = anchor_set(recording, cfg)
    test = instantiate(cfg.dataset, split="test", limit=EVERYTHING)
    bench = Bench(recording, preamble=cfg.preamble, cost=cost, dataset=test)
    models, store = bench.engine.models, FingerprintStore(":memory:")
    for model in models:
        price = Price(**cfg.prices[model]) if cfg.prices else flops(recording, model)
        store.add(fingerprint(recording, model, anchors, price))
    scope = Scope(anchors=anchors, fingerprints=store)
    estimates = [scope.estimate(problem.question, models) for problem in bench.problems]
    console.print(quality(bench, estimates, cfg.seed))
    rows = choices(bench, scope, models, cfg)
    print(json.dumps({"n": len(bench.problems), "anchors": len(anchors), "rows": rows}))


def anchor_set(recording: Recording, cfg: DictConfig) -> AnchorSet:
    """Questions that all models have answered alone, drawn from the splits together."""
    found: list[Problem] = []
    for split in cfg.splits:
        known = instantiate(cfg.dataset, split=split, limit=EVERYTHING)
        found += [problem for problem in known if recorded(recording.tree, problem, split)]
    alone = {(problem, router) for problem, router, _ in recording.tree.chains}
    found = [problem for problem in found if all((problem.id, m) in alone for m in recording.about["models"])]
    if len(found) < cfg.anchors:
        raise ConfigError(f"anchors: {cfg.anchors} are asked for and {len(found)} are recorded.")
    order = np.random.default_rng(cfg.seed).permutation(len(found))[: cfg.anchors]
    return AnchorSet([found[i] for i in sorted(order)])


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


def choices(bench: Bench, scope: Scope, models: tuple[str, ...], cfg: DictConfig) -> list[dict[str, Any]]:
    """The model that SCOPE chooses writes the whole chain, at each alpha."""
    rows, scored = [], []
    table = Table("alpha", "large", "right (95%)", "cost", "less mixing at random at this cost (95%)")
    small, large = bench.small, bench.large
    for alpha in cfg.alphas:
        run = bench.replay(Contender(ScopeRouter(scope, models, alpha), alpha))
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
    console.print(f"APGR {area.apgr} {area.apgr_ci}; recording {Path(cfg.recording).name}")
    return rows


if __name__ == "__main__":
    main()
