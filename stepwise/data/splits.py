"""Splits that never share a question, and subsets by level, subject or difficulty."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from stepwise.errors import ConfigError
from stepwise.types import Problem, normalised

SPLITS = ("train", "calibration", "validation", "test")
SHARES = {"train": 0.5, "calibration": 0.7, "validation": 0.8, "test": 1.0}
"""Upper ends of the splits on [0, 1], where a question's place is decided by its text."""


def digest(question: str) -> int:
    """A hash in [0, 2^64) of a question's words and numbers: the same in every file that has it.

    Questions that differ in signs alone ("x > 3", "x < 3") are two questions and share a digest, so that they
    share a split.
    """
    words = re.sub(r"(?:[^\w.%$]|_)+", " ", normalised(question)).strip()
    hashed = hashlib.blake2b(words.encode(errors="surrogatepass"), digest_size=8)
    return int.from_bytes(hashed.digest(), "big")


def split_of(question: str) -> str:
    """The split of a question, by its digest."""
    place = digest(question) / 2**64
    return next(name for name, end in SHARES.items() if place < end)


def outside_test(problems: Sequence[Problem], split: str, test: Sequence[Problem]) -> list[Problem]:
    """Problems of a split, cut from rows that are not the test set's.

    A row goes if its question is in the test set. The rows that would be "test" (the test set lies
    elsewhere) are for training.
    """
    questions = {normalised(problem.question) for problem in test}
    wanted = ("train", "test") if split == "train" else (split,)
    return [
        problem
        for problem in problems
        if split_of(problem.question) in wanted and normalised(problem.question) not in questions
    ]


def check_apart(problems: Sequence[Problem], split: str, others: Sequence[Problem], other_split: str) -> None:
    """Refuse two splits that share a question.

    Raises:
        ConfigError: naming the first shared question.
    """
    questions = {normalised(problem.question): problem.id for problem in others}
    for problem in problems:
        if (twin := questions.get(normalised(problem.question))) is not None:
            raise ConfigError(
                f"dataset: problem {problem.id!r} of split {split!r} is also in the {other_split} split, as "
                f"{twin!r}: {problem.question[:80]!r}. Results would be worthless; keep it in one."
            )


def check_distinct(problems: Sequence[Problem], file: str) -> None:
    """Refuse a file that asks a question twice: it would count twice in every mean.

    Raises:
        ConfigError: naming the first problems that are repeated.
    """
    first: dict[str, str] = {}
    repeated = []
    for problem in problems:
        earlier = first.setdefault(normalised(problem.question), problem.id)
        if earlier is not problem.id:
            repeated.append(f"{problem.id!r} repeats {earlier!r}")
    if repeated:
        rest = f" and {len(repeated) - 5} more" if len(repeated) > 5 else ""
        raise ConfigError(
            f"dataset {file!r} asks questions twice: {', '.join(repeated[:5])}{rest}; keep one of each."
        )


def fingerprint(question: str) -> str:
    """A short hash of a question, by which a policy's card remembers what it has seen."""
    text = normalised(question).encode(errors="surrogatepass")
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def fingerprints(problems: Sequence[Problem]) -> list[str]:
    """The `fingerprint` of every question."""
    return [fingerprint(problem.question) for problem in problems]


def check_unseen(problems: Sequence[Problem], seen: Mapping[str, Sequence[str]]) -> None:
    """Refuse problems that a policy has seen before.

    Args:
        seen: by what they were used for ("train", ...), the `fingerprint` of every question.

    Raises:
        ConfigError: with how many there are, and the first of them.
    """
    used = {hashed: use for use, hashes in seen.items() for hashed in hashes}
    known = [problem for problem in problems if fingerprint(problem.question) in used]
    if known:
        use = used[fingerprint(known[0].question)]
        raise ConfigError(
            f"dataset: the policy has seen {len(known)} of the {len(problems)} problems before, such as "
            f"{known[0].id!r} (split {use!r}): {known[0].question[:80]!r}. Results on them would be "
            "worthless; choose problems that it has not seen."
        )


def subset(
    problems: Sequence[Problem], where: Mapping[str, Any] | None, limit: int, seed: int
) -> list[Problem]:
    """At most ``limit`` problems that match ``where``, drawn with the seed, in their own order.

    Args:
        where: by label a value, a list of values, or a range ``{from: 5, to: 7}`` (both ends included).

    Raises:
        ConfigError: if a label is unknown or nothing matches.
    """
    if not problems:
        raise ConfigError("dataset: this split is empty; the file has too few questions to be cut in four.")
    matching = [problem for problem in problems if _matches(problem, where or {})]
    if not matching:
        labels = sorted({f"{k}={v}" for problem in problems for k, v in problem.labels.items()})
        raise ConfigError(
            f"where: no problem matches {dict(where or {})}; labels: {', '.join(labels[:20]) or 'none'}."
        )
    if len(matching) <= limit:
        return matching
    return [matching[i] for i in sorted(random.Random(seed).sample(range(len(matching)), limit))]


def _matches(problem: Problem, where: Mapping[str, Any]) -> bool:
    return all(_allows(wanted, problem.labels.get(label)) for label, wanted in where.items())


def _allows(wanted: Any, value: str | None) -> bool:
    if value is None:
        return False
    if isinstance(wanted, Mapping):
        try:
            return float(wanted.get("from", "-inf")) <= float(value) <= float(wanted.get("to", "inf"))
        except ValueError:
            return False
    allowed = wanted if isinstance(wanted, Sequence) and not isinstance(wanted, str) else [wanted]
    return value in {str(choice) for choice in allowed}
