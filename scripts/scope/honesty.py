"""What SCOPE promises, measured: budgets, questions outside the anchors, and several domains.

    python -m scripts.evaluate experiment=scope_honesty

Every split draws the anchors at random and measures on the other questions. A budget is promised for as many
new questions as there are anchors, and is ``broken elsewhere`` where the questions that are no anchors cost
more under the chosen alpha; it is ``broken`` where the whole set does: anchors, each forecast without its own
answer, and others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import DictConfig
from rich.progress import track
from sklearn.metrics import roc_auc_score

from scripts.program import console, save_config
from scripts.scope.records import Outcomes, load
from stepwise.errors import InfeasibleTarget
from stepwise.evaluation import provenance
from stepwise.scope import AnchorSet, Fingerprint, FingerprintStore, Scope, Setting
from stepwise.scope.novelty import OUTSIDE, Novelty
from stepwise.scope.recipes import read_rows
from stepwise.types import Problem

Places = NDArray[np.intp]
Floats = NDArray[np.float64]


def study(cfg: DictConfig) -> None:
    """Measure the parts; ``summary.json`` has the figures."""
    output, settings = provenance.writable(cfg.output), cfg.study
    save_config(cfg, output)
    sets = {name: load(settings, name) for name in settings.sets}
    elsewhere = [row["question"] for row in read_rows(settings.elsewhere)]
    parts: dict[str, Callable[[], Any]] = {
        "novelty": lambda: {name: novelty(data, elsewhere, settings) for name, data in sets.items()},
        "domains": lambda: domains(settings),
        "budgets": lambda: {name: budgets(data, settings) for name, data in sets.items()},
    }
    summary = {**{part: parts[part]() for part in settings.only or parts}, **provenance.describe()}
    (output / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    for part in settings.only or parts:
        console.print(part, summary[part])
    console.print(f"wrote {output}/summary.json")


def splits(count: int, anchors: int, times: int, seed: int) -> Iterator[tuple[Places, Places]]:
    """Places of the anchors and of the other questions."""
    for i in track(range(times), console=console):
        order = np.random.default_rng([seed, i]).permutation(count)
        yield order[:anchors], order[anchors:]


def budgets(data: Outcomes, settings: DictConfig) -> dict[str, Any]:
    """Share of the splits that break each budget: with the promise, and with the best alpha in sample."""
    pool = [data.models.index(name) for name in settings.pool if name in data.models]
    cost = _cost(data, pool)
    best = int(np.nanmean(data.correct[pool], axis=1).argmax())
    names = [data.models[row] for row in pool]
    broken: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for anchors, test in splits(len(data.problems), settings.anchor_count, settings.splits, settings.seed):
        scope = _scope(data, pool, anchors, settings)
        questions = [data.problems[i].question for i in test]
        for share in settings.shares:
            budget = share * float(np.nanmean(cost[best]))
            utilities = scope.utilities(questions, names, budget)
            for name, choose in (("promised", Scope.alpha_for), ("in sample", _in_sample)):
                try:
                    setting = choose(scope, budget, names, settings.delta)
                except InfeasibleTarget:
                    spent = np.nan, np.nan
                else:
                    taken = utilities(setting.alpha).argmax(axis=0)
                    elsewhere = float(np.nanmean(cost[taken, test]))
                    everywhere = np.average([setting.cost, elsewhere], weights=[len(anchors), len(test)])
                    spent = elsewhere / budget, float(everywhere) / budget
                broken.setdefault(f"{share:g}", {}).setdefault(name, []).append(spent)
    return {
        share: {name: _kept(*np.array(spent).T) for name, spent in by_name.items()}
        for share, by_name in broken.items()
    }


def _in_sample(scope: Scope, budget: float, models: Sequence[str], delta: float) -> Setting:
    """What a budget would choose without a promise."""
    settings = scope.settings(models, budget)
    within = [setting for setting in settings if setting.cost <= budget]
    if not within:
        raise InfeasibleTarget("", best=settings[0].cost)
    return max(within, key=lambda setting: setting.value)


def _kept(elsewhere: Floats, everywhere: Floats) -> dict[str, float]:
    """Of the splits that had a setting: shares of the budget that were spent."""
    some = ~np.isnan(elsewhere)
    if not some.any():
        return {"refused": 1.0}
    return {
        "broken": float((everywhere[some] > 1).mean()),
        "broken elsewhere": float((elsewhere[some] > 1).mean()),
        "spent": float(everywhere[some].mean()),
        "most": float(everywhere[some].max()),
        "refused": float((~some).mean()),
    }


def novelty(data: Outcomes, elsewhere: Sequence[str], settings: DictConfig) -> dict[str, list[float]]:
    """Area under the curve for telling other-domain questions, and shares called outside of each kind."""
    rows = []
    own = [problem.question for problem in data.problems]
    times = max(1, settings.splits // 10)
    for anchors, test in splits(len(own), settings.anchor_count, times, settings.seed):
        seen = Novelty([own[i] for i in anchors])
        near = seen([own[i] for i in test])
        others = np.random.default_rng(settings.seed).choice(len(elsewhere), min(500, len(elsewhere)), False)
        far = seen([elsewhere[i] for i in others])
        area = roc_auc_score([1] * len(far) + [0] * len(near), -np.concatenate([far, near]))
        rows.append([area, float((near < OUTSIDE).mean()), float((far < OUTSIDE).mean())])
    table = np.array(rows)
    return {
        name: [float(column.mean()), float(column.min()), float(column.max())]
        for name, column in zip(("auc", "called outside, own", "called outside, other"), table.T, strict=True)
    }


def domains(settings: DictConfig) -> dict[str, float]:
    """Mean area of every estimator on questions of several domains, over the splits."""
    rows = read_rows(settings.domains)
    unique = list({row["question"].strip().casefold(): row for row in rows}.values())
    models = list(unique[0]["scores"])
    right = np.array([[row["scores"][model] for row in unique] for model in models], dtype=np.float64)
    problems = [Problem(str(i), row["question"]) for i, row in enumerate(unique)]
    data = Outcomes("domains", problems, models, right, np.ones_like(right), [None] * len(models))
    areas: dict[str, list[float]] = {}
    times = max(1, settings.splits // 20)
    for anchors, rest in splits(len(problems), settings.anchor_count, times, settings.seed):
        test = rest[: settings.test_count]
        questions = [problems[i].question for i in test]
        outcomes = right[:, test]
        clear = (outcomes <= 0) | (outcomes >= 1)
        for name, made in settings.estimators.items():
            if made.auxiliary or made.embedder != "tfidf":
                continue
            scope = _scope(data, range(len(models)), anchors, settings, instantiate(made.estimator))
            value = scope.beliefs(questions, models).value
            areas.setdefault(name, []).append(roc_auc_score(outcomes[clear], value[clear]))
    return {name: float(np.mean(values)) for name, values in areas.items()}


def _scope(
    data: Outcomes, pool: Sequence[int], anchors: Places, settings: Mapping[str, Any], estimator: Any = None
) -> Scope:
    places = sorted(anchors.tolist())
    store = FingerprintStore(":memory:")
    taken: list[Fingerprint] = [data.fingerprint(row, places) for row in pool]
    store.add(*taken)
    chosen = AnchorSet([data.problems[i] for i in places])
    return Scope(anchors=chosen, fingerprints=store, estimator=estimator)


def _cost(data: Outcomes, pool: Sequence[int]) -> NDArray[np.float64]:
    """Dollars of every answer, [pool, questions]; prompts as `Known.cost` counts them."""
    rates = np.array([(price.input, price.output) for row in pool if (price := data.prices[row])])
    prompt = np.array([len(problem.question) / 4 for problem in data.problems])
    return np.asarray((prompt * rates[:, :1] + np.maximum(data.tokens[pool], 1.0) * rates[:, 1:]) * 1e-6)
