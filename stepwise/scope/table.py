"""Tables of results, as people keep them, read into one form: an outcome per question and model.

Layouts are told apart by their columns:

- *long*: a row per question and model: ``question, model, correct[, tokens, cost, group, answer]``;
- *wide*: a row per question and a column per model with 0, 1 or a share;
- *RouterBench*: wide, with ``MODEL|total_cost`` and ``MODEL|model_response`` columns;
- *RouterEval*: one object with lists: ``model``, and per split ``prompt.train_prompt`` and
  ``data.train_score`` [questions, models] (likewise ``val`` and ``test``), read as wide rows.

Rows that cannot be used are left out and named by number: the first row of data is row 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from stepwise.errors import ConfigError
from stepwise.scope.table_files import Row, read_rows
from stepwise.types import normalised

NAMES: Mapping[str, tuple[str, ...]] = {
    "question": ("question", "prompt", "query", "problem", "input"),
    "model": ("model", "model_name", "llm"),
    "correct": ("correct", "score", "is_correct", "accuracy", "performance"),
    "tokens": ("tokens", "completion_tokens", "output_tokens", "token_num"),
    "cost": ("cost", "total_cost", "cost_usd", "cost_in_usd", "price_usd", "usd", "dollars"),
    "group": ("group", "eval_name", "subject", "task", "task_name", "dataset", "cluster", "level"),
    "answer": ("answer", "gold", "ground_truth"),
}
"""Headers under which a field is looked for, the first that is there."""
ABOUT = ("id", "sample_id", "index", "embedding", "oracle_model_to_route_to", "response", "metric", "split")
"""Columns of a wide table that describe the question, beside those in `NAMES`."""
WIDE = ("question", "group", "answer")
"""Fields that a wide table has in columns of their own."""
AGAIN = {
    "long": "this model already has an answer to this question",
    "wide": "this question already has answers",
}
RESPONSE, COST = "model_response", "total_cost"
"""What RouterBench has beside a model's outcome, as ``MODEL|total_cost``."""
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
        refused: what stood in the cell that a row was left out for, by number.
        columns: which column each field was read from.
        unused: columns that were not read.
    """

    layout: str
    outcomes: dict[str, dict[str, Outcome]] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    left_out: dict[str, list[int]] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)

    @property
    def models(self) -> list[str]:
        """In the order of their first appearance."""
        return list(dict.fromkeys(model for outcomes in self.outcomes.values() for model in outcomes))


class Unusable(Exception):
    """A row, with the reason and what stood in the cell; caught here."""

    def __init__(self, reason: str, cell: object = "") -> None:
        super().__init__(reason)
        self.cell = str(cell)


def read_results(path: str | Path) -> Results:
    """Read a table of results in any of the layouts.

    Raises:
        ConfigError: if the file cannot be read, is empty, lacks a column, or has no usable row.
    """
    rows = read_rows(Path(path))
    first = next(rows, None)
    if first is None:
        raise ConfigError(f"results: {str(path)!r} has no rows.")
    columns = _columns(first, path)
    layout = _layout(first, columns, path)
    read = {field: columns[field] for field in columns if layout == "long" or field in WIDE}
    results = Results(layout, columns=read, unused=_unused(first, layout, columns, read))
    texts: dict[str, str] = {}
    for number, row in enumerate(_chained(first, rows), 1):
        results.rows = number
        try:
            text = _text(row, columns["question"])
            question = texts.setdefault(normalised(text) or text, text)
            new = _long(row, columns) if results.layout == "long" else _wide(row, columns)
            if results.outcomes.get(question, {}).keys() & new.keys():
                raise Unusable(AGAIN["long" if results.layout == "long" else "wide"])
        except Unusable as error:
            results.left_out.setdefault(str(error), []).append(number)
            if error.cell:
                results.refused[number] = error.cell
            continue
        results.outcomes.setdefault(question, {}).update(new)
        for name, values in (("group", results.groups), ("answer", results.answers)):
            if name in columns and row.get(columns[name]) not in (None, ""):
                values.setdefault(question, str(row[columns[name]]))
    if not results.outcomes:
        reason, numbers = next(iter(results.left_out.items()))
        layout = "" if layout == "long" else " (read as a column per model: it has no column model)"
        raise ConfigError(
            f"results: no row of {str(path)!r} can be used{layout}; row {numbers[0]}: {reason}."
        )
    return results


def _chained(first: Row, rest: Iterator[Row]) -> Iterator[Row]:
    yield first
    yield from rest


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


def _unused(row: Row, layout: str, columns: Mapping[str, str], read: Mapping[str, str]) -> list[str]:
    """Columns that no field is read from, and no model's outcomes are."""
    used = set(read.values())
    if layout != "long":
        models = _model_columns(row, columns)
        used |= {*models, *(f"{model}|{part}" for model in models for part in (RESPONSE, COST))}
    return [str(column) for column in row if column and column not in used]


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
        raise Unusable(f"{columns['tokens']} must be above 0")
    return {model.strip(): Outcome(_score(row, columns["correct"]), tokens, cost)}


def _wide(row: Row, columns: Mapping[str, str]) -> dict[str, Outcome]:
    """Of every model that has a value in this row; RouterBench's responses give estimated token counts."""
    outcomes: dict[str, Outcome] = {}
    for model in _model_columns(row, columns):
        if row[model] is None or str(row[model]).strip().lower() in ("", "nan"):
            continue  # not asked
        response = row.get(f"{model}|{RESPONSE}")
        cost = f"{model}|{COST}"
        outcomes[model.strip()] = Outcome(
            _score(row, model),
            max(1.0, len(response) / 4) if isinstance(response, str) else None,
            _amount(row, cost) if cost in row else None,
            isinstance(response, str),
        )
    if not outcomes:
        raise Unusable("no model has a value")
    return outcomes


def _score(row: Row, column: str) -> float:
    value = row.get(column)
    score = WORDS.get(str(value).strip().lower())
    if score is None:
        score = _number(value)
    if not 0.0 <= score <= 1.0:
        raise Unusable(f"{column} must be 0, 1 or a share between", value)
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
    number = _number(value.strip().removeprefix("$") if isinstance(value, str) else value)
    if not 0.0 <= number < math.inf:
        raise Unusable(f"{column} must be a number of at least 0", value)
    return number


def numbers(rows: Sequence[int], most: int = 10, cells: Mapping[int, str] = MappingProxyType({})) -> str:
    """Row numbers in words, the first few of them, with what stood in the cell where that is known."""
    more = f" and {len(rows) - most} more" if len(rows) > most else ""
    return (
        ", ".join(f"{row} ({cells[row][:40]!r})" if row in cells else str(row) for row in rows[:most]) + more
    )
