"""Anchors from a dataset's file, whose fields may have any name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stepwise.data.benchmarks import local_copy
from stepwise.data.raw_problems import read_lines
from stepwise.errors import ConfigError
from stepwise.scope.anchors import AnchorSet, choose_anchors
from stepwise.types import Problem
from stepwise.verify import extract_answer


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """Rows of a JSON Lines file, ``.gz`` or not.

    Raises:
        ConfigError: if it cannot be read.
    """
    try:
        return [raw.row for raw in read_lines(Path(path))]
    except ConfigError as error:
        raise ConfigError(f"data: {str(path)!r} cannot be read as JSON Lines: {error}") from error


def recipe(
    path: str,
    n: int = 250,
    *,
    question: str = "question",
    answer: str = "answer",
    stratum: str | None = None,
    embedder: str = "tfidf",
    seed: int = 0,
    provenance: Mapping[str, Any] | None = None,
) -> AnchorSet:
    r"""Covering anchors of a file, see `choose_anchors`.

    Args:
        path: of the file; where it is not there, of a `local_copy` of a benchmark.
        question: name of the field. Likewise ``answer`` (a solution will do: the answer is taken from its
            ``\boxed{}`` or ``####``) and ``stratum`` (a level or a subject).

    Raises:
        ConfigError: if the file cannot be read or lacks a field.
    """
    file = Path(path)
    stem = file.name.split(".")[0]
    rows = read_rows(file if file.is_file() else local_copy(file.parent, stem) or file)
    try:
        problems = [
            Problem(f"{stem}-{i}", row[question], extract_answer(str(row[answer])))
            for i, row in enumerate(rows)
        ]
        strata = [row[stratum] for row in rows] if stratum else None
    except KeyError as error:
        raise ConfigError(
            f"data: a row of {path!r} has no field {error}; it has {', '.join(rows[0])}."
        ) from error
    source = {"file": file.name, **(provenance or {})}
    return choose_anchors(problems, n, embedder=embedder, strata=strata, seed=seed, provenance=source)
