"""Fit the baselines that need a few numbers: STEER's mixture and the query-level classifier.

    python -m scripts.baselines.fit
    python -m scripts.evaluate +router@routers.steer=steer +router@routers.query=query

Small-only and large-only solve training problems; ``steer.json`` holds a mixture of two Gaussians over the
small model's mean log-probability of a step, ``query.json`` a logistic regression on the question's words
that predicts whether only the large model is right.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.progress import track
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegressionCV
from sklearn.mixture import GaussianMixture

from scripts.program import console, program, save_config
from scripts.settings import Solving, backend_of
from stepwise.evaluation import provenance
from stepwise.routers import Always
from stepwise.routers.fitted import words
from stepwise.store.opening import open_store
from stepwise.types import Trace
from stepwise.verify import correct


@dataclass
class Fit(Solving):
    """On which problems the baselines are fitted."""

    output: str = "outputs/baselines"
    seed: int = 0
    problems: int = 2000
    concurrency: int = 128


@program("baselines.fit", Fit)
def main(cfg: DictConfig) -> None:
    output = provenance.writable(cfg.output)
    save_config(cfg, output)
    pair = instantiate(cfg.pair)
    engine = pair.engine(backend=backend_of(cfg), store=open_store(cfg.store))
    problems = instantiate(cfg.dataset, split="train", limit=cfg.problems)

    async def alone(model: str) -> dict[str, tuple[Trace, bool]]:
        solved = engine.solve_many(problems, Always(model), concurrency=cfg.concurrency)
        return {trace.problem.id: (trace, await correct(trace)) async for trace in solved}

    pool = (engine.models[0], engine.models[-1])
    small, large = (engine.run(alone(m)) for m in track(pool, "solving", console=console))
    engine.run(engine.close())
    needs = [large[p.id][1] and not small[p.id][1] for p in problems]
    fitted = {
        "steer": mixture([trace for trace, _ in small.values()], cfg.seed),
        "query": classifier(problems, needs, cfg.seed),
    }
    for name, numbers in fitted.items():
        record = {**numbers, "problems": len(problems), **provenance.describe()}
        (output / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    console.print(
        f"{len(problems)} problems, {np.mean(needs):.1%} need the large model; the classifier's "
        f"cross-validated AUC is {fitted['query']['auc']:.3f}. Wrote {output}/steer.json and query.json."
    )


def mixture(traces: Sequence[Trace], seed: int) -> dict[str, Any]:
    """Two Gaussians over the mean log-probability of the steps, the unsure one first."""
    values = np.array([[step.signals.mean_logprob] for trace in traces for step in trace.steps])
    fitted = GaussianMixture(2, random_state=seed).fit(values)
    order = np.argsort(fitted.means_[:, 0])
    return {
        "weights": fitted.weights_[order].tolist(),
        "means": fitted.means_[order, 0].tolist(),
        "deviations": np.sqrt(fitted.covariances_[order, 0, 0]).tolist(),
    }


def classifier(problems: Sequence[Any], needs: Sequence[bool], seed: int) -> dict[str, Any]:
    """A logistic regression on word counts; its strength of regularisation by cross-validation."""
    reader = CountVectorizer(analyzer=words)
    counts = reader.fit_transform([problem.question for problem in problems])
    fitted = LogisticRegressionCV(
        Cs=6,
        cv=5,
        scoring="roc_auc",
        random_state=seed,
        max_iter=2000,
        l1_ratios=(0.0,),
        use_legacy_attributes=False,
    ).fit(counts, needs)
    names = reader.get_feature_names_out()
    return {
        "bias": float(fitted.intercept_[0]),
        "weights": dict(zip(names, fitted.coef_[0].tolist(), strict=True)),
        "auc": float(np.mean(fitted.scores_, axis=0).max()),
    }


if __name__ == "__main__":
    main()
