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
from stepwise.data.splits import SPLITS, check_apart, check_distinct, outside_test, split_of, subset
from stepwise.errors import ConfigError
from stepwise.types import Problem

DATASETS = {"nano": STANDARD, "nano-harder": HARDER}
"""Built in, and without end."""
EVERYTHING = 1_000_000
"""Problems: more than any file has."""


def load_dataset(
    name: str,
    *,
    path: str | None = None,
    folder: str | None = None,
    split: str | None = None,
    limit: int = 1000,
    seed: int = 0,
    where: Mapping[str, Any] | None = None,
    fields: Mapping[str, str] | None = None,
    revision: str | None = None,
) -> Sequence[Problem]:
    """Problems with gold answers. No two splits share a question.

    Args:
        name: "nano", "nano-harder", a benchmark ("gsm8k", "math500", "omnimath", "math", "aime24", "aime25",
            "olympiadbench"), the path of a JSON Lines file, or any name where ``path`` is given.
        path: your own JSON Lines (``.gz`` too) with ``question`` and ``answer`` in every line. With
            ``{split}`` in it there is a file per split; a file without is cut by the hash of its questions
            (half of them to train on, a fifth each to calibrate and to test, a tenth to validate).
        folder: of local copies of benchmarks, or one with ``benchmarks`` in it; others come from the hub.
        split: "train", "calibration", "validation" or "test"; None for a single file as a whole, and for the
            test split of whatever else.
        limit: at most this many problems.
        seed: nano draws its problems with it; of a larger file ``limit`` lines are drawn with it.
        where: filter by label, e.g. ``{"level": [4, 5], "subject": "Algebra"}``.
        fields: what the file calls ``question``, ``answer`` and ``id``, where it is something else.
        revision: of the hub's dataset.

    Raises:
        ConfigError: if something is unknown, a line is unusable, a question is repeated, or two splits share
            one.
    """
    if limit < 1:
        raise ConfigError(f"limit must be at least 1, not {limit}.")
    if split is not None and split not in SPLITS:
        raise ConfigError(f"split must be one of {', '.join(SPLITS)}, not {split!r}.")
    if path is None and name in DATASETS:
        return list(islice(nano.problems(split or "test", seed, DATASETS[name]), limit))
    if path is None and name in BENCHMARKS:
        return subset(_benchmark(name, split or "test", folder, revision), where, limit, seed)
    file = str(path or name)  # a number on a command line is a name too
    if "{split}" not in file and not Path(file).is_file():
        known = ", ".join((*DATASETS, *BENCHMARKS))
        raise ConfigError(f"dataset must be one of {known}, or the path of a JSON Lines file, not {file!r}.")
    return subset(_own(file, split, _fields(fields)), where, limit, seed)


def _benchmark(name: str, split: str, folder: str | None, revision: str | None) -> list[Problem]:
    benchmark = BENCHMARKS[name]
    test = [to_problem(raw, benchmark.fields) for raw in read(benchmark.test, folder, revision)]
    if benchmark.test == benchmark.rest:
        return [problem for problem in test if split_of(problem.question) == split]
    if split == "test":
        return test
    rest = [to_problem(raw, benchmark.rest_fields) for raw in read(benchmark.rest, folder, revision)]
    return outside_test(rest, split, test)


def _own(path: str, split: str | None, fields: Fields) -> list[Problem]:
    """Your own file, cut; with ``{split}`` in its name, a whole file that is checked against the others."""
    if "{split}" not in path:
        problems = _file(path, fields)
        return [problem for problem in problems if split in (None, split_of(problem.question))]
    files = {name: path.replace("{split}", name) for name in SPLITS}
    split = split or "test"
    problems = _file(files.pop(split), fields)
    for name, file in files.items():
        if Path(file).is_file():
            check_apart(problems, split, _file(file, fields), name)
    return problems


def _file(file: str, fields: Fields) -> list[Problem]:
    problems = [to_problem(raw, fields) for raw in read_lines(Path(file))]
    if not problems:
        raise ConfigError(f"dataset {file!r} is empty.")
    check_distinct(problems, file)
    return problems


def _fields(names: Mapping[str, str] | None) -> Fields:
    unknown = set(names or {}) - {"question", "answer", "id"}
    if unknown:
        raise ConfigError(f"fields: expected question, answer or id, got {sorted(unknown)[0]!r}.")
    return Fields(**{str(key): str(value) for key, value in (names or {}).items()})
