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

from scripts.program import console, save_config
from scripts.scope.figures import draw
from scripts.scope.measures import Scored, measured, reliability
from scripts.scope.records import Outcomes, auxiliary, load
from scripts.scope.routes import route
from stepwise.evaluation import metrics, provenance
from stepwise.evaluation.provenance import digest
from stepwise.scope import AnchorSet, Auxiliary, FingerprintStore, Scope, choose_anchors
from stepwise.scope.embed import Embedder, Sentences, open_embedder
from stepwise.scope.estimators import Beliefs, Estimator
from stepwise.scope.estimators.base import sigmoid
from stepwise.scope.estimators.difficulty import logistic, rasch


def study(cfg: DictConfig) -> None:
    """Run every set of ``cfg.study``; rows of finished splits are kept."""
    output, settings = provenance.writable(cfg.output), cfg.study
    save_config(cfg, output)
    embedders = {"tfidf": open_embedder("tfidf")}
    if settings.sentences is not None:
        sentences = Sentences(settings.sentences, cache=output / "vectors.db")
        embedders["joined"] = open_embedder(["tfidf", sentences])
    sets: dict[str, Any] = {}
    for name, recipe in settings.sets.items():
        data = load(settings, name)
        questions = [problem.question for problem in data.problems]
        helpers = [auxiliary(source, questions) for source in recipe.auxiliary]
        splits = [
            kept(output, data, settings, helpers, embedders, settings.seed + i)
            for i in track(range(settings.splits), description=name, console=console)
        ]
        sets[name] = report(data, splits, settings)
        draw(sets[name], output / f"{name}.png", title=f"{name}, {len(data.models)} models")
        show(name, sets[name])
    about = {"splits": settings.splits, "anchors": settings.anchor_count, "seed": settings.seed}
    summary = {**about, "sets": sets, **provenance.describe()}
    (output / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    console.print(f"wrote {output}/summary.json")


Split = tuple[dict[str, Scored], dict[str, Any]]


def kept(
    output: Path,
    data: Outcomes,
    settings: DictConfig,
    helpers: Sequence[Auxiliary],
    embedders: Mapping[str, Embedder],
    seed: int,
) -> Split:
    """`split`, read back where an earlier run under the same settings has made it."""
    everything: Any = OmegaConf.to_container(settings, resolve=True)
    lasting = {key: value for key, value in everything.items() if key not in ("splits", "seed")}
    file = output / "splits" / f"{data.name}-{seed}-{digest(lasting)}.json"
    if file.exists():
        record = json.loads(file.read_text())
        scored = {name: Scored(**_arrays(columns)) for name, columns in record["scored"].items()}
        return scored, record["routed"]
    scored, routed = split(data, settings, helpers, embedders, seed)
    plain = {
        name: {key: value.tolist() for key, value in vars(table).items()} for name, table in scored.items()
    }
    file.parent.mkdir(exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps({"scored": plain, "routed": routed}))
    partial.replace(file)
    return scored, routed


def _arrays(columns: Mapping[str, Any]) -> dict[str, Any]:
    return {name: np.array(values) for name, values in columns.items()}


def split(
    data: Outcomes,
    settings: DictConfig,
    helpers: Sequence[Auxiliary],
    embedders: Mapping[str, Embedder],
    seed: int,
) -> Split:
    """Scores of every estimator, and the routing, on one split."""
    random = np.random.default_rng(seed)
    anchors = (
        choose_anchors(data.problems, settings.anchor_count, seed=seed)
        if settings.cover
        else _draw(data, settings.anchor_count, random)
    )
    at = [i for i, problem in enumerate(data.problems) if problem.id in anchors.place]
    test = [i for i, problem in enumerate(data.problems) if problem.id not in anchors.place]
    left_out = random.permutation(len(data.models))[: len(data.models) // 4]
    store = FingerprintStore(":memory:")
    store.add(*(data.fingerprint(row, at) for row in range(len(data.models))))
    questions = [data.problems[i].question for i in test]
    scored, routed = {}, {}
    for name, recipe in settings.estimators.items():
        if recipe.embedder not in embedders:
            continue
        estimator: Estimator = instantiate(recipe.estimator)
        scope = Scope(
            anchors=anchors, fingerprints=store, embedder=embedders[recipe.embedder], estimator=estimator,
            auxiliary=helpers if recipe.auxiliary else (), coverage=settings.coverage,
        )  # fmt: skip
        beliefs = scope.beliefs(questions, [data.models[row] for row in left_out])
        scored[name] = _score(data, beliefs, left_out, test)
        if name == settings.route_with:
            routed = route(data, scope, test, settings)
    scored["true_difficulty"] = _score(data, _oracle(data, at, test, left_out), left_out, test)
    return scored, routed


def _draw(data: Outcomes, count: int, random: np.random.Generator) -> AnchorSet:
    chosen = sorted(random.choice(len(data.problems), count, replace=False))
    return AnchorSet([data.problems[i] for i in chosen], {"chosen": "at random"})


def _oracle(data: Outcomes, at: Sequence[int], test: Sequence[int], rows: NDArray[np.intp]) -> Beliefs:
    """What would be known if the difficulty of every question was: learned from all outcomes on it."""
    difficulty = rasch(data.correct)
    curves = logistic(-difficulty[list(at)], data.correct[:, list(at)], 50.0)[rows]
    value = sigmoid(curves[:, :1] - curves[:, 1:] * difficulty[list(test)])
    tokens = np.nanmedian(data.tokens[:, list(at)], axis=1)[rows, None] * np.ones(len(test))
    return Beliefs(value, tokens, 0 * tokens, np.inf * tokens)


def _score(data: Outcomes, beliefs: Beliefs, rows: NDArray[np.intp], test: Sequence[int]) -> Scored:
    truth, tokens = data.correct[rows][:, test], data.tokens[rows][:, test]
    seen = ~np.isnan(truth)
    model, question = np.meshgrid(rows, test, indexing="ij")
    covered = (tokens >= beliefs.low) & (tokens <= beliefs.high)
    error = np.abs(beliefs.tokens - tokens)
    return Scored(
        beliefs.value[seen],
        truth[seen],
        question[seen],
        model[seen],
        error[seen],
        covered[seen].astype(float),
    )


def report(data: Outcomes, splits: Sequence[Split], settings: DictConfig) -> dict[str, Any]:
    """All numbers of one set, with 95% intervals (bootstrap over questions)."""
    seed, hard = settings.seed, contested(data, settings)
    estimators: dict[str, dict[str, Any]] = {}
    for name in splits[0][0]:
        scores = [scored[name] for scored, _ in splits]
        estimators[name] = {
            "all": measured(scores, seed, np.ones(len(data.models), bool)),
            "contested": measured(scores, seed, hard),
            "reliability": reliability(scores),
        }
    routing = [routed for _, routed in splits]
    return {
        "questions": len(data.problems), "models": len(data.models),
        "contested_models": [m for m, in_ in zip(data.models, hard, strict=True) if in_],
        "estimators": estimators,
        "routing": {
            "splits": routing,
            "share_of_cost": _over_splits([r["share_of_cost"] for r in routing], seed),
            "chosen_accuracy_minus_best": _over_splits(
                [r["chosen_on_anchors"]["accuracy"] - r["best_single"]["accuracy"] for r in routing], seed
            ),
            "chosen_cost_share": _over_splits(
                [r["chosen_on_anchors"]["cost"] / r["best_single"]["cost"] for r in routing], seed
            ),
            "widest_gap": max(r["gap"] for r in routing),
        },
    }  # fmt: skip


def contested(data: Outcomes, settings: DictConfig) -> NDArray[np.bool_]:
    """Models whose outcome is least foreseeable: right between these shares of the questions."""
    share = np.nanmean(data.correct, axis=1)
    return np.asarray((share > settings.contested[0]) & (share < settings.contested[1]))


def _over_splits(values: Sequence[float | None], seed: int) -> list[float] | None:
    """[mean, low, high] over splits; None where a split has no value."""
    if any(value is None for value in values):
        return None
    array = np.array(values, dtype=np.float64)
    return [float(array.mean()), *metrics.interval(array, seed=seed)]


def show(name: str, result: Mapping[str, Any]) -> None:
    table = Table(
        "estimator", "models", "accuracy", "AUC", "Brier", "calibration error", "token MAE", title=name
    )
    for estimator, scores in result["estimators"].items():
        for which in ("all", "contested"):
            cells = [_cell(scores[which][key]) for key in ("accuracy", "auc", "brier", "calibration_error")]
            table.add_row(estimator, which, *cells, f"{scores[which]['token_mae'][0]:.0f}")
    console.print(table)
    routing = result["routing"]
    for key in ("share_of_cost", "chosen_accuracy_minus_best", "chosen_cost_share"):
        console.print(f"  {key}: {_cell(routing[key]) if routing[key] else 'not reached in every split'}")
    console.print(f"  widest gap of the frontier: {routing['widest_gap']:.1%} of its range")


def _cell(values: Sequence[float]) -> str:
    return f"{values[0]:.3f} ({values[1]:.3f} to {values[2]:.3f})"
