"""Rows of a file or a hub dataset as problems; an error names the line that caused it."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepwise.errors import ConfigError
from stepwise.types import Problem

LABELS = {"level": "level", "subject": "subject", "type": "subject", "subfield": "subject",
          "domain": "subject", "difficulty": "difficulty"}  # fmt: skip
"""What problems are grouped and filtered by: a row's key, and the label it becomes."""


@dataclass(frozen=True)
class Fields:
    """What a row calls its question and its answer. A row without an answer may have a ``solution``."""

    question: str = "question"
    answer: str = "answer"
    id: str = "id"


@dataclass(frozen=True)
class RawProblem:
    """One row before it is checked: where it comes from (for messages), the id it gets if it has none."""

    place: str
    id: str
    row: Any


def read_lines(file: Path) -> Iterator[RawProblem]:
    """Rows of a JSON Lines file (``.gz`` too).

    Raises:
        ConfigError: if the file cannot be read or a line is not JSON; the message names the line.
    """
    name = file.name.removesuffix(".gz").removesuffix(".jsonl")
    opened = gzip.open if file.suffix == ".gz" else open
    try:
        with opened(file, "rt", encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                place = f"{file}, line {number}"
                if line.strip():
                    yield RawProblem(place, f"{name}-{number}", _parsed(line, place))
    except (OSError, EOFError) as error:
        raise ConfigError(f"dataset: {file} cannot be read: {error}.") from error


def _parsed(line: str, place: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ConfigError(f"{place}: expected a JSON object, got {line.strip()[:60]!r}.") from error


def to_problem(raw: RawProblem, fields: Fields) -> Problem:
    """A row as a problem.

    Raises:
        ConfigError: if the question or the answer is missing or empty.
    """
    row, place = raw.row, raw.place
    if not isinstance(row, Mapping):
        raise ConfigError(
            f"{place}: expected an object with {fields.question!r} and {fields.answer!r}, "
            f"got {str(row)[:60]!r}."
        )
    question = row.get(fields.question)
    if not isinstance(question, str) or not question.strip():
        raise ConfigError(_missing(place, "question", fields.question, row))
    answer = _answer(row, fields)
    if not answer:
        raise ConfigError(_missing(place, "answer", fields.answer, row))
    return Problem(str(row.get(fields.id, raw.id)), question, answer, labels=_labels(row))


def _missing(place: str, what: str, key: str, row: Mapping[str, Any]) -> str:
    state = "empty" if key in row else f"missing (the row has {', '.join(map(str, row)) or 'no fields'})"
    return f"{place}: {key!r} is {state}; name the {what}'s field with dataset.fields.{what}."


def _answer(row: Mapping[str, Any], fields: Fields) -> str:
    """The gold answer; from a worked solution (GSM8K's ####, MATH's box), the answer it ends in."""
    from stepwise.verify import extract_answer

    value = row.get(fields.answer)
    if isinstance(value, list | tuple) and value:
        value = ", ".join(map(str, value))
    if value is None and isinstance(row.get("solution"), str):
        return extract_answer(row["solution"])
    text = "" if value is None else str(value).strip()
    return extract_answer(text) if "####" in text else text


def _labels(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        label: _label(row[key])
        for key, label in LABELS.items()
        if key in row and row[key] not in (None, "", [])
    }


def _label(value: Any) -> str:
    """``Level 3`` is 3; of a path of domains, the second ("Mathematics -> Algebra -> ...")."""
    text = str(value[0] if isinstance(value, list | tuple) else value)
    parts = text.split(" -> ")
    return re.sub(r"^Level\s+", "", parts[1] if len(parts) > 1 else parts[0])
