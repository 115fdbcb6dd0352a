"""ZeroEval's records of what real models did on a set of questions, as fingerprints are made of them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig

from scripts.scope.measures import Array
from stepwise.engine.cost import Price
from stepwise.errors import ConfigError
from stepwise.scope import Auxiliary, Fingerprint
from stepwise.scope.recipes import read_rows
from stepwise.types import Problem


@dataclass(frozen=True)
class Outcomes:
    """One set: problems [n] and what the models [m] did: ``correct`` and ``tokens`` [m, n] (nan: no
    answer)."""

    name: str
    problems: Sequence[Problem]
    models: Sequence[str]
    correct: Array
    tokens: Array
    prices: Sequence[Price | None]

    def fingerprint(self, row: int, at: Sequence[int]) -> Fingerprint:
        answered = [i for i in at if not np.isnan(self.correct[row, i])]
        return Fingerprint(
            model=self.models[row],
            anchor_ids=[self.problems[i].id for i in answered],
            correct=self.correct[row, answered].tolist(),
            tokens=np.maximum(self.tokens[row, answered], 1.0).tolist(),
            price=self.prices[row],
            estimated=True,
        )


def load(settings: DictConfig, name: str) -> Outcomes:
    folder = Path(settings.data) / "zeroeval"
    rows = read_rows(folder / f"{name}_questions.jsonl.gz")
    problems = [Problem(row["id"], row["question"], row["answer"]) for row in rows]
    models, correct = _matrix(folder / f"{name}_correct.csv", [p.id for p in problems])
    _, tokens = _matrix(folder / f"{name}_est_tokens.csv", [p.id for p in problems])
    prices = [Price(*settings.prices[model]) if model in settings.prices else None for model in models]
    return Outcomes(name, problems, models, correct, tokens, prices)


def _matrix(path: Path, ids: Sequence[str]) -> tuple[list[str], Array]:
    """Models and values [m, n] in the order of the questions; an empty cell is nan."""
    try:
        with path.open(newline="") as lines:
            head, *rows = csv.reader(lines)
    except OSError as error:
        raise ConfigError(
            f"data: {path} cannot be read ({error.strerror}); set data=FOLDER or STEPWISE_DATA."
        ) from error
    values = {"True": 1.0, "False": 0.0, "": np.nan}
    table = {row[0]: [values[cell] if cell in values else float(cell) for cell in row[1:]] for row in rows}
    return head[1:], np.array([table[name] for name in ids]).T


def auxiliary(recipe: Mapping[str, Any], questions: Sequence[str]) -> Auxiliary:
    """Labelled questions by recipe, without those of the set."""
    labelled: Auxiliary = instantiate(recipe)
    return labelled.without(questions)
