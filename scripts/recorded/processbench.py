"""Which scores notice that a wrong step has happened, on ProcessBench's solutions of twelve generators.

The first k steps of a solution are one case, for every k; it is positive if the first wrong step, as people
marked it, is among them. Scores read text alone: ProcessBench records no token probabilities and no rewards.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from scripts.recorded.bon_cascade import auc
from stepwise.data.raw_problems import read_lines
from stepwise.evaluation import provenance
from stepwise.evaluation.metrics import resamples
from stepwise.types import normalised

Array = NDArray[np.float64]
_EQUATION = re.compile(
    r"(?<![\d.,/*+^=-] )(?<![\w.,/*+^=)-])\$?(\d[\d,]*(?:\.\d+)?)"
    r"\s*(\+|-|\*|×|\\times|÷|/|\\div)\s*\$?(\d[\d,]*(?:\.\d+)?)"
    r"\s*=\s*\$?(\d[\d,]*(?:\.\d+)?)(?![\d.,]*\s*(?:[\d*/+×^%-]|\\(?:times|div|frac|cdot)))"
)


@dataclass(frozen=True)
class MarkedSolution:
    """A solution with the index of its first wrong step (None: all right)."""

    question: str
    steps: tuple[str, ...]
    wrong_at: int | None

    @property
    def labels(self) -> NDArray[np.bool_]:
        """[steps]: whether a wrong step has happened by then."""
        return np.arange(len(self.steps)) >= (len(self.steps) if self.wrong_at is None else self.wrong_at)


def run(
    *, data: str, sets: Sequence[str], folds: int, output: Path, seed: int, console: Console
) -> dict[str, Any]:
    """AUC of every score on every set, with 95% intervals over solutions."""
    results = {}
    for name in sets:
        solutions = read(Path(data) / "processbench" / f"{name}.jsonl.gz")
        scores = {
            "position": [np.arange(len(s.steps), dtype=float) for s in solutions],
            "length of the step": [np.array([float(len(step)) for step in s.steps]) for s in solutions],
            "false equations so far": [false_equations(s) for s in solutions],
            "words, fitted": words(solutions, folds, seed),
        }
        results[name] = {
            "n": len(solutions),
            "cases": sum(len(s.steps) for s in solutions),
            "wrong_solutions": sum(s.wrong_at is not None for s in solutions),
            "auc": {score: interval(values, solutions, seed) for score, values in scores.items()},
        }
    _show(results, console)
    (output / "table.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return {"sets": results, "seed": seed, **provenance.describe()}


def read(file: Path) -> list[MarkedSolution]:
    return [
        MarkedSolution(
            r.row["problem"], tuple(r.row["steps"]), r.row["label"] if r.row["label"] >= 0 else None
        )
        for r in read_lines(file)
    ]


def false_equations(solution: MarkedSolution) -> Array:
    """[steps]: how many equations of two plain numbers do not hold, up to and including each step."""
    return np.cumsum(
        [sum(not _holds(*match) for match in _EQUATION.findall(step)) for step in solution.steps]
    ).astype(float)


def _holds(left: str, sign: str, right: str, result: str) -> bool:
    a, b, c = (float(number.replace(",", "")) for number in (left, right, result))
    if sign in ("÷", "/", r"\div"):
        value = a / b if b else float("nan")
    else:
        value = {"+": a + b, "-": a - b}.get(sign, a * b)
    return abs(value - c) <= 0.01 * max(1.0, abs(c))  # results are often rounded


def words(solutions: Sequence[MarkedSolution], folds: int, seed: int) -> list[Array]:
    """[steps] each: the fitted probability of an error so far, by models that never saw the question."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline

    prefixes = [["\n".join(s.steps[: k + 1]) for k in range(len(s.steps))] for s in solutions]
    groups = np.array([normalised(s.question) for s in solutions])
    fitted: list[Array] = [np.zeros(0)] * len(solutions)
    for seen, unseen in GroupKFold(folds).split(groups, groups=groups):
        model = make_pipeline(
            TfidfVectorizer(min_df=3, max_features=20_000, sublinear_tf=True),
            LogisticRegression(C=3.0, max_iter=300, random_state=seed),
        )
        model.fit(
            [text for i in seen for text in prefixes[i]], np.concatenate([solutions[i].labels for i in seen])
        )
        for i in unseen:
            fitted[i] = model.predict_proba(prefixes[i])[:, 1]
    return fitted


def interval(scores: Sequence[Array], solutions: Sequence[MarkedSolution], seed: int) -> dict[str, float]:
    """AUC over all cases, with a bootstrap interval over solutions."""
    labels = [solution.labels for solution in solutions]
    values: list[float] = []
    for weights in resamples(len(solutions), seed, 200):
        drawn = np.repeat(np.arange(len(solutions)), np.rint(weights * len(solutions)).astype(int))
        values.append(
            auc(
                np.concatenate([scores[i] for i in drawn]).tolist(),
                np.concatenate([labels[i] for i in drawn]).tolist(),
            )
        )
    low, high = np.percentile(values, (2.5, 97.5))
    whole = auc(np.concatenate(scores).tolist(), np.concatenate(labels).tolist())
    return {"auc": whole, "low": float(low), "high": float(high)}


def _show(results: dict[str, Any], console: Console) -> None:
    table = Table("set", "solutions", "score", "AUC", "95% interval")
    for name, result in results.items():
        for score, values in result["auc"].items():
            table.add_row(
                name,
                str(result["n"]),
                score,
                f"{values['auc']:.3f}",
                f"{values['low']:.3f} to {values['high']:.3f}",
            )
    console.print(table)
