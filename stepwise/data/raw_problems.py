"""Rows of a file or a hub dataset as problems; an error names the line that caused it."""

from __future__ import annotations

import codecs
import gzip
import json
import re
from collections import Counter
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
    """Rows of a JSON Lines file in UTF-8 (``.gz`` too).

    Raises:
        ConfigError: if the file cannot be read or a line is not JSON; the message names the line.
    """
    name = file.name.removesuffix(".gz").removesuffix(".jsonl")
    opened = gzip.open if file.suffix == ".gz" else open
    try:
        with opened(file, "rb") as lines:
            for number, line in enumerate(lines, 1):
                place = f"{file}, line {number}"
                text = _decoded(line.removeprefix(codecs.BOM_UTF8) if number == 1 else line, place)
                if text.strip():
                    yield RawProblem(place, f"{name}-{number}", _parsed(text, place))
    except (OSError, EOFError) as error:
        raise ConfigError(f"dataset: {file} cannot be read: {error}.") from error


def _decoded(line: bytes, place: str) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{place}: expected UTF-8, got the byte 0x{line[error.start]:02x}.") from error


def _parsed(line: str, place: str) -> Any:
    try:
        row = json.loads(line, object_pairs_hook=_distinct, parse_constant=_no_number)
        json.dumps(row, ensure_ascii=False).encode()
    except _Unusable as error:
        raise ConfigError(f"{place}: {error}") from error
    except UnicodeEncodeError as error:
        raise ConfigError(f"{place}: a text has half of a surrogate pair (\\ud800 to \\udfff).") from error
    except RecursionError as error:
        raise ConfigError(f"{place}: the JSON is nested too deeply.") from error
    except ValueError as error:
        raise ConfigError(f"{place}: expected a JSON object, got {line.strip()[:60]!r}.") from error
    return row


class _Unusable(ValueError):
    """JSON that `json` reads and that has no meaning as a row."""


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise _Unusable(f"the key {twice!r} is there twice.")
    return row


def _no_number(constant: str) -> Any:
    raise _Unusable(f"expected numbers and texts, got {constant}.")


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
    answer = _answer(row, fields, place)
    if not answer:
        raise ConfigError(_missing(place, "answer", fields.answer, row))
    id = row.get(fields.id)
    return Problem(raw.id if id is None else str(id), question, answer, labels=_labels(row))


def _missing(place: str, what: str, key: str, row: Mapping[str, Any]) -> str:
    state = "empty" if key in row else f"missing (the row has {', '.join(map(str, row)) or 'no fields'})"
    return f"{place}: {key!r} is {state}; name the {what}'s field with +dataset.fields.{what}=NAME."


def _answer(row: Mapping[str, Any], fields: Fields, place: str) -> str:
    """The gold answer; of a worked solution (GSM8K's ####, MATH's box), the answer that it marks."""
    from stepwise.verify.extract import marked

    value = row.get(fields.answer)
    text = "" if value is None else _written(value, fields.answer, place)
    if not text and isinstance(row.get("solution"), str):
        text = row["solution"]
        return _after_hashes(text) or marked(text)
    return _after_hashes(text) or (marked(text) if r"\boxed" in text else "") or text


def _written(value: Any, key: str, place: str) -> str:
    """A text, a number, or a flat list of them as an answer.

    Raises:
        ConfigError: if it is anything else.
    """
    parts = value if isinstance(value, list | tuple) and value else [value]
    for part in parts:
        if not isinstance(part, str | int | float) or isinstance(part, bool) or part != part:
            raise ConfigError(
                f"{place}: {key!r} must be a text, a number or a flat list of them, "
                f"not {json.dumps(value, default=str)[:60]}."
            )
    return ", ".join(str(part).strip() for part in parts)


def _after_hashes(text: str) -> str:
    """What follows GSM8K's marker, to the letter."""
    return text.rpartition("####")[2].strip() if "####" in text else ""


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
