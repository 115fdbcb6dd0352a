"""How often our answer checking agrees with recorded grades of real solutions.

    python -m scripts.checks.verification                    # all recorded sets, every disagreement listed
    python -m scripts.checks.verification 'sets=[bon32-gsm8k]' limit=1000
    python -m scripts.checks.verification 'sets=[]' changed=2000           # changed gold answers alone

Reads solutions with recorded grades (StrictPRMBench's bon32, ZeroEval), extracts and compares every answer,
and writes ``disagreements.jsonl`` beside ``summary.json``. Then takes gold answers of the benchmarks, makes
one integer in each larger by one, and lists those that still count as equal: none should.
docs/verification.md explains what it finds.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig
from rich.table import Table

from scripts.program import console, program, save_config
from scripts.settings import RECORDED
from stepwise import load_dataset
from stepwise.data.raw_problems import read_lines
from stepwise.errors import ConfigError
from stepwise.evaluation import provenance
from stepwise.types import normalised
from stepwise.verify import equivalent, extract_answer


class GradedSolution(NamedTuple):
    """A recorded solution, what its recorder made of it, and what the gold answer is."""

    id: str
    text: str
    gold: str
    recorded: bool


_INTEGER = re.compile(r"(?<![\d.])\d{1,9}(?![\d.])")
SETS = ("bon32-gsm8k", "bon32-math500", "zeroeval-gsm", "zeroeval-math-l5")


@dataclass
class Verification:
    """Which recorded grades are compared with ours."""

    data: str = RECORDED
    output: str = "outputs/check_verification"
    sets: list[str] = field(default_factory=lambda: list(SETS))
    limit: int | None = None  # solutions a set
    workers: int = 4  # comparisons side by side
    changed: int = 2000  # gold answers with an integer changed


@program("checks.verification", Verification)
def main(cfg: DictConfig) -> None:
    output = provenance.writable(cfg.output)
    save_config(cfg, output)
    lines = []
    with (output / "disagreements.jsonl").open("w", encoding="utf-8") as file:
        for name in cfg.sets:
            solutions = islice(read(name, Path(cfg.data)), cfg.limit)
            line, wrong = agreement(name, solutions, workers=cfg.workers)
            lines.append(line)
            for disagreement in wrong:
                print(json.dumps({"set": name, **disagreement}), file=file)
    accepted = changed_and_accepted(Path(cfg.data), cfg.changed, workers=cfg.workers)
    _show(lines)
    for changed, gold in accepted:
        console.print(f"counted as equal: {changed!r} and {gold!r}", markup=False)
    console.print(f"{len(accepted)} of {cfg.changed} gold answers with an integer changed count as equal")
    record = {"sets": lines, "changed": cfg.changed, "accepted": accepted, **provenance.describe()}
    (output / "summary.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def read(name: str, data: Path) -> Iterator[GradedSolution]:
    """The solutions of a recorded set.

    Raises:
        ConfigError: if the set is unknown or its files are missing.
    """
    collection, _, part = name.partition("-")
    if collection == "bon32":
        benchmark = load_dataset(part, folder=str(data), limit=10**6)
        golds = {normalised(problem.question): problem.answer for problem in benchmark}
        asked = _by_id(data / "bon32" / f"{part}_questions.jsonl.gz", "problem_id", "question")
        for record in read_lines(data / "bon32" / f"{part}.jsonl.gz"):
            row = record.row
            gold = golds[normalised(asked[row["problem_id"]])]
            yield GradedSolution(f"{row['problem_id']}/{row['cand']}", row["response"], gold, row["correct"])
    elif collection == "zeroeval":
        answers = _by_id(data / "zeroeval" / f"{part}_questions.jsonl.gz", "id", "answer")
        for record in read_lines(data / "zeroeval" / f"{part}_outputs.jsonl.gz"):
            row = record.row
            yield GradedSolution(
                f"{row['model']}/{row['id']}", row["output"], answers[str(row["id"])], row["correct"]
            )
    else:
        raise ConfigError(f"sets: expected names like bon32-gsm8k or zeroeval-gsm, got {name!r}.")


def _by_id(file: Path, key: str, value: str) -> dict[str, str]:
    return {str(record.row[key]): str(record.row[value]) for record in read_lines(file)}


def agreement(
    name: str, solutions: Iterator[GradedSolution], *, workers: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Counts of a set, and every solution where we and the recorder differ."""
    same = lru_cache(maxsize=None)(equivalent)
    counts = dict.fromkeys(("n", "agree", "only_we_say_right", "only_they_say_right"), 0)
    differing = []

    def judged(solution: GradedSolution) -> tuple[GradedSolution, str, bool]:
        answer = extract_answer(solution.text)
        return solution, answer, same(answer, solution.gold)

    with ThreadPoolExecutor(workers) as pool:
        for solution, answer, right in pool.map(judged, solutions):
            counts["n"] += 1
            if right == solution.recorded:
                counts["agree"] += 1
                continue
            counts["only_we_say_right" if right else "only_they_say_right"] += 1
            differing.append(
                {
                    "id": solution.id, "gold": solution.gold, "answer": answer, "recorded": solution.recorded,
                    "ours": right, "end": solution.text[-300:],
                }
            )  # fmt: skip
    return {"set": name, **counts, "agreement": counts["agree"] / max(counts["n"], 1)}, differing


def changed_and_accepted(data: Path, count: int, *, workers: int) -> list[tuple[str, str]]:
    """Gold answers with one integer changed that still count as equal, each with the original."""
    rng = random.Random(0)
    golds = [
        problem.answer
        for name in ("math500", "gsm8k", "omnimath")
        for problem in load_dataset(name, folder=str(data), limit=10**6)
        if _INTEGER.search(problem.answer)
    ]
    pairs = [(_changed(gold, rng), gold) for gold in rng.sample(golds, min(count, len(golds)))]
    with ThreadPoolExecutor(workers) as pool:
        verdicts = list(pool.map(lambda pair: equivalent(*pair), pairs))
    return [pair for pair, equal in zip(pairs, verdicts, strict=True) if equal]


def _changed(answer: str, rng: random.Random) -> str:
    """An answer with one of its integers larger by one."""
    place = rng.choice(list(_INTEGER.finditer(answer)))
    return f"{answer[: place.start()]}{int(place[0]) + 1}{answer[place.end() :]}"


def _show(lines: list[dict[str, Any]]) -> None:
    table = Table("set", "solutions", "agreement", "only we say right", "only they say right")
    for line in lines:
        counts = (str(line[key]) for key in ("only_we_say_right", "only_they_say_right"))
        table.add_row(line["set"], str(line["n"]), f"{line['agreement']:.2%}", *counts)
    console.print(table)


if __name__ == "__main__":
    main()
