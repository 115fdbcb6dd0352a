"""Tables of results, as people keep them, read into one form: an outcome per question and model.

Three layouts are told apart by their columns:

- *long*: a row per question and model: ``question, model, correct[, tokens, cost, group, answer]``;
- *wide*: a row per question and a column per model with 0, 1 or a share;
- *RouterBench*: wide, with ``MODEL|total_cost`` and ``MODEL|model_response`` columns;
- *RouterEval*: one object with lists: ``model``, and per split ``prompt.train_prompt`` and
  ``data.train_score`` [questions, models] (likewise ``val`` and ``test``), read as wide rows.

CSV, JSON Lines (``.gz`` too), Parquet, and JSON for RouterEval. Both benchmarks publish pickles, which can
run code when they are read: whoever trusts one writes it as Parquet or JSON first. Rows that cannot be used
are left out and named by number: the first row of data is row 1.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stepwise.errors import ConfigError
from stepwise.extras import missing_extra
from stepwise.types import normalised

Row = Mapping[str, Any]
NAMES: Mapping[str, tuple[str, ...]] = {
    "question": ("question", "prompt", "query", "problem", "input"),
    "model": ("model", "model_name", "llm"),
    "correct": ("correct", "score", "is_correct", "accuracy", "performance"),
    "tokens": ("tokens", "completion_tokens", "output_tokens", "token_num"),
    "cost": ("cost", "total_cost"),
    "group": ("group", "eval_name", "subject", "task", "task_name", "dataset", "cluster", "level"),
    "answer": ("answer", "gold", "ground_truth"),
}
"""Headers under which a field is looked for, the first that is there."""
ABOUT = ("id", "sample_id", "index", "embedding", "oracle_model_to_route_to", "response", "metric", "split")
"""Columns of a wide table that describe the question, beside those in `NAMES`."""
ROUTER_EVAL = ("train", "val", "test")
WORDS = {"true": 1.0, "yes": 1.0, "right": 1.0, "false": 0.0, "no": 0.0, "wrong": 0.0}


@dataclass(frozen=True)
class Outcome:
    """What one model did on one question; None where the table does not say."""

    correct: float
    tokens: float | None = None
    cost: float | None = None
    estimated: bool = False


@dataclass
class Results:
    """A table that has been read.

    Attributes:
        layout: "long", "wide" or "RouterBench".
        outcomes: by question (the text), then by model.
        groups, answers: by question, where given.
        rows: how many were read.
        left_out: numbers of the rows that could not be used, by reason.
    """

    layout: str
    outcomes: dict[str, dict[str, Outcome]] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    left_out: dict[str, list[int]] = field(default_factory=dict)

    @property
    def models(self) -> list[str]:
        """In the order of their first appearance."""
        return list(dict.fromkeys(model for outcomes in self.outcomes.values() for model in outcomes))


class Unusable(Exception):
    """A row, with the reason; caught here."""


def read_results(path: str | Path) -> Results:
    """Read a table of results in any of the layouts.

    Raises:
        ConfigError: if the file cannot be read, is empty, lacks a column, or has no usable row.
    """
    rows = _rows(Path(path))
    first = next(rows, None)
    if first is None:
        raise ConfigError(f"results: {str(path)!r} has no rows.")
    columns = _columns(first, path)
    results = Results(_layout(first, columns, path))
    texts: dict[str, str] = {}
    for number, row in enumerate(_chained(first, rows), 1):
        results.rows = number
        try:
            text = _text(row, columns["question"])
            question = texts.setdefault(normalised(text) or text, text)
            new = _long(row, columns) if results.layout == "long" else _wide(row, columns)
            if results.outcomes.get(question, {}).keys() & new.keys():
                raise Unusable("the same question came before with an outcome")
        except Unusable as error:
            results.left_out.setdefault(str(error), []).append(number)
            continue
        results.outcomes.setdefault(question, {}).update(new)
        for name, values in (("group", results.groups), ("answer", results.answers)):
            if name in columns and row.get(columns[name]) not in (None, ""):
                values.setdefault(question, str(row[columns[name]]))
    if not results.outcomes:
        reason, numbers = next(iter(results.left_out.items()))
        raise ConfigError(f"results: no row of {str(path)!r} can be used; row {numbers[0]}: {reason}.")
    return results


def _chained(first: Row, rest: Iterator[Row]) -> Iterator[Row]:
    yield first
    yield from rest


def _rows(path: Path) -> Iterator[Row]:
    """Rows of a file by its ending; a generator, so that errors come with the first row."""
    kind = (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()
    readers = {
        ".csv": _csv_rows, ".jsonl": _json_rows, ".parquet": _parquet_rows, ".json": _router_eval_rows
    }  # fmt: skip
    if kind not in readers:
        hint = "; a pickle can run code, and is not read" if kind in (".pkl", ".pickle") else ""
        raise ConfigError(
            f"results: {str(path)!r} must end in .csv, .jsonl or .parquet (.gz allowed), or .json as "
            f"RouterEval's sets{hint}."
        )
    try:
        yield from readers[kind](path)
    except ConfigError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise ConfigError(f"results: {str(path)!r} cannot be read: {error}.") from error


def _csv_rows(path: Path) -> Iterator[Row]:
    csv.field_size_limit(10**8)
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file)


def _json_rows(path: Path) -> Iterator[Row]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ConfigError(f"results: line {number} of {str(path)!r} must be a JSON object.")
                scores = row.pop("scores", None)  # {model: score}: a wide row
                yield {**row, **scores} if isinstance(scores, dict) else row


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise missing_extra("Parquet", "scope") from error
    for batch in parquet.ParquetFile(path).iter_batches():
        yield from batch.to_pylist()


def _router_eval_rows(path: Path) -> Iterator[Row]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8") as file:
        content = json.load(file)
    try:
        models = [str(name) for name in content["model"]]
        for split in ROUTER_EVAL:
            prompts = content["prompt"].get(f"{split}_prompt", [])
            for prompt, scores in zip(prompts, content["data"].get(f"{split}_score", []), strict=True):
                yield {"question": prompt, **dict(zip(models, scores, strict=True))}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"results: {str(path)!r} must have model, prompt and data as RouterEval's sets do, with a prompt "
            "and a score per model for every question; rows in JSON go into a .jsonl file."
        ) from error


def _columns(row: Row, path: str | Path) -> dict[str, str]:
    """The column of each field that the table has."""
    by_name = {str(column).strip().lower(): column for column in row if column is not None}
    columns = {
        field: by_name[next(name for name in names if name in by_name)]
        for field, names in NAMES.items()
        if any(name in by_name for name in names)
    }
    if "question" not in columns:
        raise ConfigError(
            f"results: {str(path)!r} must have a column question (or {', '.join(NAMES['question'][1:])}), "
            f"and has {', '.join(map(str, by_name)) or 'none'}."
        )
    return columns


def _layout(row: Row, columns: Mapping[str, str], path: str | Path) -> str:
    if "model" in columns:
        if "correct" not in columns:
            raise ConfigError(
                f"results: {str(path)!r} has a row per model, and must have a column correct (or "
                f"{', '.join(NAMES['correct'][1:])}); it has {', '.join(map(str, row))}."
            )
        return "long"
    if not _model_columns(row, columns):
        raise ConfigError(
            f"results: {str(path)!r} must have columns model and correct, or a column per model; it has "
            f"{', '.join(map(str, row))}."
        )
    return "RouterBench" if any("|" in str(column) for column in row) else "wide"


def _model_columns(row: Row, columns: Mapping[str, str]) -> list[str]:
    about = set(columns.values())
    return [
        column
        for column in row
        if column and column not in about and "|" not in column and column.strip().lower() not in ABOUT
    ]


def _text(row: Row, column: str) -> str:
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise Unusable("the question is empty")
    return value


def _long(row: Row, columns: Mapping[str, str]) -> dict[str, Outcome]:
    model = row.get(columns["model"])
    if not isinstance(model, str) or not model.strip():
        raise Unusable("the model is empty")
    tokens = _amount(row, columns["tokens"]) if "tokens" in columns else None
    cost = _amount(row, columns["cost"]) if "cost" in columns else None
    if tokens == 0:
        raise Unusable("tokens must be above 0")
    return {model.strip(): Outcome(_score(row.get(columns["correct"]), "correct"), tokens, cost)}


def _wide(row: Row, columns: Mapping[str, str]) -> dict[str, Outcome]:
    """Of every model that has a value in this row; RouterBench's responses give estimated token counts."""
    outcomes: dict[str, Outcome] = {}
    for model in _model_columns(row, columns):
        if row[model] is None or str(row[model]).strip().lower() in ("", "nan"):
            continue  # not asked
        response = row.get(f"{model}|model_response")
        cost = f"{model}|total_cost"
        outcomes[model.strip()] = Outcome(
            _score(row[model], model),
            max(1.0, len(response) / 4) if isinstance(response, str) else None,
            _amount(row, cost) if cost in row else None,
            isinstance(response, str),
        )
    if not outcomes:
        raise Unusable("no model has a value")
    return outcomes


def _score(value: object, column: str) -> float:
    score = WORDS.get(str(value).strip().lower())
    if score is None:
        score = _number(value)
    if not 0.0 <= score <= 1.0:
        raise Unusable(f"{column} must be 0, 1 or a share between")
    return score


def _number(value: object) -> float:
    """nan for what is no number."""
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan


def _amount(row: Row, column: str) -> float | None:
    value = row.get(column)
    if value is None or value == "":
        raise Unusable(f"{column} is empty")
    number = _number(value)
    if not 0.0 <= number < math.inf:
        raise Unusable(f"{column} must be a number of at least 0")
    return number


def numbers(rows: Sequence[int], most: int = 10) -> str:
    """Row numbers in words, the first few of them."""
    more = f" and {len(rows) - most} more" if len(rows) > most else ""
    return ", ".join(map(str, rows[:most])) + more
