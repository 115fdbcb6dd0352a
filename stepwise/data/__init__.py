"""Problems to solve: the built-in nano sets, or a JSON Lines file of one's own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from stepwise.data import nano
from stepwise.data.nano_story import HARDER, STANDARD
from stepwise.errors import ConfigError
from stepwise.types import Problem

DATASETS = {"nano": STANDARD, "nano-harder": HARDER}


def load_dataset(name: str, *, split: str = "test", limit: int = 1000, seed: int = 0) -> Sequence[Problem]:
    """Problems with gold answers.

    Args:
        name: "nano" or "nano-harder", or the path of a JSON Lines file with ``question`` and
            ``answer`` (and optionally ``id``) in every line; a file has no splits.
        split: "train", "calibration", "validation" or "test".
        limit: at most this many problems.
        seed: nano draws its problems with it.

    Raises:
        ConfigError: if the dataset or the split is unknown, or a line of the file is unusable.
    """
    if limit < 1:
        raise ConfigError(f"limit must be at least 1, not {limit}.")
    if name in DATASETS:
        return list(islice(nano.problems(split, seed, DATASETS[name]), limit))
    if not Path(name).is_file():
        raise ConfigError(
            f"dataset must be one of {', '.join(DATASETS)} or the path of a JSON Lines file, not {name!r}."
        )
    with Path(name).open(encoding="utf-8", errors="replace") as lines:
        problems = [_problem(name, number, line) for number, line in enumerate(islice(lines, limit), 1)]
    if not problems:
        raise ConfigError(f"dataset {name!r} has no lines.")
    return problems


def _problem(file: str, number: int, line: str) -> Problem:
    try:
        row = json.loads(line)
        question, answer = row["question"], row["answer"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{file}, line {number}: expected an object with 'question' and 'answer', got {line[:60]!r}."
        ) from error
    if not str(question).strip():
        raise ConfigError(f"{file}, line {number}: 'question' is empty.")
    return Problem(str(row.get("id", f"{Path(file).stem}-{number}")), str(question), str(answer))
