"""Rows of a results file: CSV, JSON Lines (``.gz`` too), Parquet, and JSON as RouterEval's sets have it."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stepwise.errors import ConfigError
from stepwise.extras import missing_extra

Row = Mapping[str, Any]
ROUTER_EVAL = ("train", "val", "test")


def read_rows(path: Path) -> Iterator[Row]:
    """Rows of a file by its ending; a generator, so that errors come with the first row."""
    kind = (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()
    readers = {
        ".csv": _csv_rows, ".jsonl": _json_rows, ".parquet": _parquet_rows, ".json": _router_eval_rows
    }  # fmt: skip
    if not path.exists():
        raise ConfigError(f"results: {str(path)!r} does not exist.")
    if kind not in readers:
        hint = (
            "; reading a pickle can run code, so pickles are not read" if kind in (".pkl", ".pickle") else ""
        )
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
