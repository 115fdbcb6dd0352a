"""How recorded chains of a real model are cut into steps, by the rule as it was and as it is.

    python -m scripts.checks.boundaries               # bon32: Qwen2.5-7B-Instruct on GSM8K and MATH500
    python -m scripts.checks.boundaries 'sets=[math500]' limit=800

A kind counts chains. "Before" is what the rule did to them when a step ended with two line ends exactly, a
step beyond the limit ended the chain, four equal steps did, and "}." ended an answer of Qwen's base models;
"now" is what `stepwise.engine.boundaries` does. Tokens are the recorder's estimate, spread over a text's
characters.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from omegaconf import DictConfig
from rich.table import Table

from scripts.program import console, program, save_config
from scripts.settings import RECORDED
from stepwise.data.raw_problems import read_lines
from stepwise.engine.boundaries import Boundaries, ends_answer
from stepwise.engine.stop_rules import StepRule
from stepwise.errors import StepwiseError
from stepwise.evaluation import provenance
from stepwise.types import Signals, Step

ODD_BLANK = re.compile(r"\n[ \t\r]+\n|\r\n\r\n")
EMPTY_STEP = re.compile(r"\n[ \t\r]*\n[ \t\r]*\n")
STOPS = ("\\boxed{}", "\nQuestion:")
KINDS = (
    "a step beyond the limit ended the chain",
    "a blank line with blanks or carriage returns was no boundary",
    "an empty step",
    "equal steps ended the chain",
    "right, and its answer's end was seen before its last step",
)


@dataclass
class StepBoundaries:
    """Which recorded chains are cut, and how long a step may be."""

    data: str = RECORDED
    output: str = "outputs/check_boundaries"
    sets: list[str] = field(default_factory=lambda: ["gsm8k", "math500"])
    limit: int | None = None  # chains a set
    max_step_tokens: int = 512
    max_steps: int = 64


@dataclass(frozen=True)
class RecordedChain:
    """A chain, whether it is right, and about how many characters a token has."""

    text: str
    correct: bool
    characters: float


@program("checks.boundaries", StepBoundaries)
def main(cfg: DictConfig) -> None:
    output = provenance.writable(cfg.output)
    save_config(cfg, output)
    summary: dict[str, object] = {**provenance.describe()}
    table = Table(title="recorded chains by kind, before and now")
    for name in ("set", "n", "kind", "before", "now"):
        table.add_column(name)
    for name in cfg.sets:
        chains = list(islice(read(Path(cfg.data), name), cfg.limit))
        counts = count(chains, cfg.max_step_tokens, cfg.max_steps)
        summary[name] = {"n": len(chains), "kinds": counts}
        for kind, (before, now) in counts.items():
            table.add_row(name, str(len(chains)), kind, str(before), str(now))
    (output / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    console.print(table)


def read(folder: Path, name: str) -> Iterator[RecordedChain]:
    """The recorded chains of one set."""
    for line in read_lines(folder / "bon32" / f"{name}.jsonl.gz"):
        text = str(line.row["response"])
        yield RecordedChain(text, bool(line.row["correct"]), len(text) / max(line.row["est_tokens"], 1))


def count(chains: Sequence[RecordedChain], step: int, most: int) -> dict[str, tuple[int, int]]:
    """Chains of every kind, before and now."""
    before: Counter[str] = Counter()
    now: Counter[str] = Counter()
    long, odd, empty, repeated, early = KINDS
    for chain in chains:
        old, new = cut_before(chain.text), cut_now(chain, step)
        if "".join(new) != chain.text:
            raise StepwiseError("the steps of a recorded chain are not its text.")
        before[long] += any(len(part) > step * chain.characters for part in old)
        before[odd] += ODD_BLANK.search(chain.text) is not None
        empties = EMPTY_STEP.search(chain.text) is not None
        before[empty] += empties
        now[empty] += empties and any(not part.strip() for part in new[:-1])
        before[repeated] += four_equal(old)
        now[repeated] += loops(new, most)
        before[early] += chain.correct and any("}." in part for part in old[:-1])
        now[early] += chain.correct and any(
            ends_answer(part, ("\\boxed{}", "\nQuestion:")) for part in new[:-1]
        )
    return {kind: (before[kind], now[kind]) for kind in KINDS}


def cut_before(text: str) -> list[str]:
    """Steps that end with a blank line without anything in it."""
    parts = text.split("\n\n")
    return [part + "\n\n" for part in parts[:-1]] + parts[-1:]


def cut_now(chain: RecordedChain, step: int) -> list[str]:
    """Steps as the engine cuts them, a character standing for a part of a token."""
    boundaries = Boundaries(("\n\n",), at_limit=True)
    limit = max(1, round(step * chain.characters))
    return ["".join(part) for part in boundaries.steps(chain.text, limit)]


def four_equal(steps: Sequence[str]) -> bool:
    return any(len(set(steps[i : i + 4])) == 1 for i in range(len(steps) - 3))


def loops(steps: Sequence[str], most: int) -> bool:
    """Whether the rule would end the chain because it repeats itself."""
    rule = StepRule("\n\n", max_steps=most)
    made = [Step(text, (), "m", {}, Signals()) for text in steps[:most]]
    return any(rule.stop_after(made[i], made[:i], written=0) == "repeated" for i in range(len(made)))


if __name__ == "__main__":
    main()
