"""Problems to solve: nano's built-in sets, public benchmarks, or your own JSON Lines files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from stepwise.data.benchmarks import BENCHMARKS, read
from stepwise.data.nano import problems as nano
from stepwise.data.nano.story import HARDER, STANDARD
from stepwise.data.raw_problems import Fields, read_lines, to_problem
from stepwise.data.splits import SPLITS, check_apart, outside_test, split_of, subset
from stepwise.errors import ConfigError
from stepwise.types import Problem

DATASETS = {"nano": STANDARD, "nano-harder": HARDER}


def load_dataset(
    name: str,
    *,
    path: str | None = None,
    folder: str | None = None,
    split: str = "test",
    limit: int = 1000,
    seed: int = 0,
    where: Mapping[str, Any] | None = None,
    fields: Mapping[str, str] | None = None,
    revision: str | None = None,
) -> Sequence[Problem]:
    """Problems with gold answers. No split shares a question with the test split.

    Args:
        name: "nano", "nano-harder", a benchmark ("gsm8k", "math500", "omnimath", "math", "aime24", "aime25",
            "olympiadbench"), the path of a JSON Lines file, or any name where ``path`` is given.
        path: your own JSON Lines (``.gz`` too) with ``question`` and ``answer`` in every line. With
            ``{split}`` in it there is a file per split; a file without is read whole, whatever the split.
        folder: of local copies of benchmarks (see `stepwise.data.benchmarks`); the others come from the hub.
        split: "train", "calibration", "validation" or "test".
        limit: at most this many problems.
        seed: nano draws its problems with it; of a larger file ``limit`` lines are drawn with it.
        where: filter by label, e.g. ``{"level": [4, 5], "subject": "Algebra"}``.
        fields: what the file calls ``question``, ``answer`` and ``id``, where it is something else.
        revision: of the hub's dataset.

    Raises:
        ConfigError: if something is unknown, a line is unusable, or two splits share a question.
    """
    if limit < 1:
        raise ConfigError(f"limit must be at least 1, not {limit}.")
    if split not in SPLITS:
        raise ConfigError(f"split must be one of {', '.join(SPLITS)}, not {split!r}.")
    if path is None and name in DATASETS:
        return list(islice(nano.problems(split, seed, DATASETS[name]), limit))
    if path is None and name in BENCHMARKS:
        return subset(_benchmark(name, split, folder, revision), where, limit, seed)
    file = str(path or name)  # a number on a command line is a name too
    if "{split}" not in file and not Path(file).is_file():
        known = ", ".join((*DATASETS, *BENCHMARKS))
        raise ConfigError(f"dataset must be one of {known}, or the path of a JSON Lines file, not {file!r}.")
    return subset(_own(file, split, _fields(fields)), where, limit, seed)


def has_splits(name: str, path: str | None = None) -> bool:
    """Whether a dataset comes in splits; a single file of your own is read whole, whatever the split."""
    return "{split}" in path if path else name in DATASETS or name in BENCHMARKS or "{split}" in name


def _benchmark(name: str, split: str, folder: str | None, revision: str | None) -> list[Problem]:
    benchmark = BENCHMARKS[name]
    test = [to_problem(raw, benchmark.fields) for raw in read(benchmark.test, folder, revision)]
    if benchmark.test == benchmark.rest:
        return [problem for problem in test if split_of(problem.question) == split]
    if split == "test":
        return test
    rest = [to_problem(raw, benchmark.rest_fields) for raw in read(benchmark.rest, folder, revision)]
    return outside_test(rest, split, test)


def _own(path: str, split: str, fields: Fields) -> list[Problem]:
    """Your own file; with ``{split}`` in its name it is checked against the test file."""
    problems = _file(path, split, fields)
    if "{split}" in path and split != "test" and Path(path.replace("{split}", "test")).is_file():
        check_apart(problems, _file(path, "test", fields), split)
    return problems


def _file(path: str, split: str, fields: Fields) -> list[Problem]:
    file = Path(path.replace("{split}", split))
    problems = [to_problem(raw, fields) for raw in read_lines(file)]
    if not problems:
        raise ConfigError(f"dataset {str(file)!r} is empty.")
    return problems


def _fields(names: Mapping[str, str] | None) -> Fields:
    unknown = set(names or {}) - {"question", "answer", "id"}
    if unknown:
        raise ConfigError(f"fields: expected question, answer or id, got {sorted(unknown)[0]!r}.")
    return Fields(**{str(key): str(value) for key, value in (names or {}).items()})
