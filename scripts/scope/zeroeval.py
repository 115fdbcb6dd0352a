"""SCOPE on real models: ZeroEval's records of 39 LLMs on GSM8K and 32 on MATH level 5.

    python -m scripts.evaluate experiment=scope_zeroeval

Whole models are left out *and* questions are left out. Per split: 250 covering anchors; a quarter of the
models is left out and known by its answers to the anchors alone; estimates for the left-out models are scored
on the questions that are no anchors. Nobody's outcomes on those questions are used, and neither are labelled
questions from elsewhere that equal a question of the set (by normalised text). Token counts of this data are
estimates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from rich.progress import track
from rich.table import Table

from scripts import console
from scripts.scope.figures import draw
from scripts.scope.measures import Scored, measured, reliability
from scripts.scope.records import Data, auxiliary, load
from scripts.scope.routes import route
from stepwise.evaluation import metrics, provenance
from stepwise.evaluation.provenance import digest
from stepwise.scope import AnchorSet, Auxiliary, FingerprintStore, Scope, choose_anchors
from stepwise.scope.embed import Embedder, Sentences, open_embedder
from stepwise.scope.estimators import Beliefs, Estimator
from stepwise.scope.estimators.base import sigmoid
from stepwise.scope.estimators.difficulty import logistic, rasch


def study(cfg: DictConfig) -> None:
    """Run every set of the configuration; rows of finished splits are kept."""
    output = provenance.writable(cfg.output)
    OmegaConf.save(cfg, output / "config.yaml", resolve=True)
    embedders = {"tfidf": open_embedder("tfidf")}
    if cfg.sentences is not None:
        embedders["joined"] = open_embedder(["tfidf", Sentences(cfg.sentences, cache=output / "vectors.db")])
    summary: dict[str, Any] = {
        "splits": cfg.splits,
        "anchors": cfg.anchor_count,
        "seed": cfg.seed,
        "sets": {},
    }
    for name, told in cfg.sets.items():
        data = load(cfg, name)
        helpers = [auxiliary(one, [p.question for p in data.problems]) for one in told.auxiliary]
        found = [
            kept(output, data, cfg, helpers, embedders, cfg.seed + i)
            for i in track(range(cfg.splits), description=name, console=console)
        ]
        summary["sets"][name] = report(data, found, cfg)
        draw(summary["sets"][name], output / f"{name}.png", title=f"{name}, {len(data.models)} models")
        show(name, summary["sets"][name])
    (output / "summary.json").write_text(json.dumps({**summary, **provenance.describe()}, indent=1) + "\n")
    console.print(f"wrote {output}/summary.json")


Split = tuple[dict[str, Scored], dict[str, Any]]


def kept(
    output: Path,
    data: Data,
    cfg: DictConfig,
    helpers: Sequence[Auxiliary],
    embedders: Mapping[str, Embedder],
    seed: int,
) -> Split:
    """`split`, read back where an earlier run under the same settings has made it."""
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    settings = {key: value for key, value in plain.items() if key not in ("output", "splits", "seed")}
    file = output / "splits" / f"{data.name}-{seed}-{digest(settings)}.json"
    if file.exists():
        told = json.loads(file.read_text())
        return {name: Scored(**_arrays(one)) for name, one in told["scored"].items()}, told["routed"]
    scored, routed = split(data, cfg, helpers, embedders, seed)
    plain = {name: {key: value.tolist() for key, value in vars(one).items()} for name, one in scored.items()}
    file.parent.mkdir(exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps({"scored": plain, "routed": routed}))
    partial.replace(file)
    return scored, routed


def _arrays(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {name: np.array(values) for name, values in columns.items()}


def split(
    data: Data, cfg: DictConfig, helpers: Sequence[Auxiliary], embedders: Mapping[str, Embedder], seed: int
) -> Split:
    """Scores of every estimator, and the routing, on one split."""
    random = np.random.default_rng(seed)
    anchors = (
        choose_anchors(data.problems, cfg.anchor_count, seed=seed)
        if cfg.cover
        else _draw(data, cfg.anchor_count, random)
    )
    at = [i for i, problem in enumerate(data.problems) if problem.id in anchors.place]
    test = [i for i, problem in enumerate(data.problems) if problem.id not in anchors.place]
    left_out = random.permutation(len(data.models))[: len(data.models) // 4]
    store = FingerprintStore(":memory:")
    store.add(*(data.fingerprint(row, at) for row in range(len(data.models))))
    questions = [data.problems[i].question for i in test]
    scored, routed = {}, {}
    for name, one in cfg.estimators.items():
        if one.embedder not in embedders:
            continue
        estimator: Estimator = instantiate(one.estimator)
        scope = Scope(
            anchors=anchors, fingerprints=store, embedder=embedders[one.embedder], estimator=estimator,
            auxiliary=helpers if one.auxiliary else (), coverage=cfg.coverage,
        )  # fmt: skip
        found = scope.beliefs(questions, [data.models[row] for row in left_out])
        scored[name] = _score(data, found, left_out, test)
        if name == cfg.route_with:
            routed = route(data, scope, test, cfg)
    scored["true_difficulty"] = _score(data, _oracle(data, at, test, left_out), left_out, test)
    return scored, routed


def _draw(data: Data, count: int, random: np.random.Generator) -> AnchorSet:
    chosen = sorted(random.choice(len(data.problems), count, replace=False))
    return AnchorSet([data.problems[i] for i in chosen], {"chosen": "at random"})


def _oracle(data: Data, at: Sequence[int], test: Sequence[int], rows: NDArray[np.intp]) -> Beliefs:
    """What would be known if the difficulty of every question was: learned from all outcomes on it."""
    difficulty = rasch(data.correct)
    curves = logistic(-difficulty[list(at)], data.correct[:, list(at)], 50.0)[rows]
    value = sigmoid(curves[:, :1] - curves[:, 1:] * difficulty[list(test)])
    tokens = np.nanmedian(data.tokens[:, list(at)], axis=1)[rows, None] * np.ones(len(test))
    return Beliefs(value, tokens, 0 * tokens, np.inf * tokens)


def _score(data: Data, found: Beliefs, rows: NDArray[np.intp], test: Sequence[int]) -> Scored:
    truth, tokens = data.correct[rows][:, test], data.tokens[rows][:, test]
    seen = ~np.isnan(truth)
    model, question = np.meshgrid(rows, test, indexing="ij")
    covered = (tokens >= found.low) & (tokens <= found.high)
    error = np.abs(found.tokens - tokens)
    return Scored(
        found.value[seen], truth[seen], question[seen], model[seen], error[seen], covered[seen].astype(float)
    )


def report(data: Data, found: Sequence[Split], cfg: DictConfig) -> dict[str, Any]:
    """All numbers of one set, with 95% intervals (bootstrap over questions)."""
    estimators: dict[str, dict[str, Any]] = {
        name: {
            "all": measured([one[name] for one, _ in found], cfg.seed, np.ones(len(data.models), bool)),
            "contested": measured([one[name] for one, _ in found], cfg.seed, contested(data, cfg)),
        }
        for name in found[0][0]
    }
    routing = [routed for _, routed in found]
    for name in estimators:
        estimators[name]["reliability"] = reliability([one[name] for one, _ in found])
    return {
        "questions": len(data.problems), "models": len(data.models),
        "contested_models": [m for m, in_ in zip(data.models, contested(data, cfg), strict=True) if in_],
        "estimators": estimators,
        "routing": {
            "splits": routing,
            "share_of_cost": _over_splits([r["share_of_cost"] for r in routing], cfg.seed),
            "chosen_accuracy_minus_best": _over_splits(
                [r["chosen_on_anchors"]["accuracy"] - r["best_single"]["accuracy"] for r in routing], cfg.seed
            ),
            "chosen_cost_share": _over_splits(
                [r["chosen_on_anchors"]["cost"] / r["best_single"]["cost"] for r in routing], cfg.seed
            ),
            "widest_gap": max(r["gap"] for r in routing),
        },
    }  # fmt: skip


def contested(data: Data, cfg: DictConfig) -> NDArray[np.bool_]:
    """Models whose outcome is least foreseeable: right between these shares of the questions."""
    share = np.nanmean(data.correct, axis=1)
    return np.asarray((share > cfg.contested[0]) & (share < cfg.contested[1]))


def _over_splits(values: Sequence[float | None], seed: int) -> list[float] | None:
    """[mean, low, high] over splits; None where a split has no value."""
    if any(value is None for value in values):
        return None
    array = np.array(values, dtype=np.float64)
    return [float(array.mean()), *metrics.interval(array, seed=seed)]


def show(name: str, found: Mapping[str, Any]) -> None:
    table = Table(
        "estimator", "models", "accuracy", "AUC", "Brier", "calibration error", "token MAE", title=name
    )
    for estimator, told in found["estimators"].items():
        for which in ("all", "contested"):
            cells = [_cell(told[which][key]) for key in ("accuracy", "auc", "brier", "calibration_error")]
            table.add_row(estimator, which, *cells, f"{told[which]['token_mae'][0]:.0f}")
    console.print(table)
    routing = found["routing"]
    for key in ("share_of_cost", "chosen_accuracy_minus_best", "chosen_cost_share"):
        console.print(f"  {key}: {_cell(routing[key]) if routing[key] else 'not reached in every split'}")
    console.print(f"  widest gap of the frontier: {routing['widest_gap']:.1%} of its range")


def _cell(values: Sequence[float]) -> str:
    return f"{values[0]:.3f} ({values[1]:.3f} to {values[2]:.3f})"
