"""nano: GSM8K-style word problems from a seeded generator, with checked gold steps.

A problem is a small graph of quantities. Each quantity belongs to a person and is either given,
built from numbers in the question ("14 crates with 23 apples each"), or derived from other
people's quantities, usually the last one mentioned, at times one further back. The solution works
out one quantity a line, in the order of the story, and closes with "The answer is N.".

Steps differ in *skill*, and skills differ in difficulty: copying and small sums are easy for any
model, two-digit products and percentages are not. That spread is what makes routing worth
learning. Quantities are built first and combined later, as in GSM8K, so hard steps tend to come
early in a chain.

Splits are disjoint by construction: a question belongs to the split that its hash points to.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from stepwise.data.nano.gaps import known_gaps, skip
from stepwise.data.nano.story import SMALL, STANDARD, GoldStep, Mix, Quantity, Story, grow, line_of, sum_of
from stepwise.data.nano.words import DISTRACTORS, NAMES, OPENINGS, THEMES
from stepwise.data.splits import digest
from stepwise.errors import ConfigError
from stepwise.types import Problem

SPLITS = ("train", "calibration", "validation", "test")


@dataclass(frozen=True, slots=True)
class NanoProblem(Problem):
    """A nano problem with its gold solution."""

    steps: tuple[GoldStep, ...] = ()

    @property
    def solution(self) -> str:
        return "".join(step.text for step in self.steps)


def _ask(s: Story) -> tuple[str, list[Quantity], GoldStep | None]:
    """The closing question, the quantities it is about, and the line that answers it."""
    do, item, rng = s.theme.do, s.item, s.rng
    last = s.quantities[-1]
    others = [q for q in s.loose if q is not last] or [q for q in s.quantities if q is not last]
    others = [q for q in others if max(q.value, last.value) <= SMALL]
    kind = rng.random() + s.mix.direct
    group = [*rng.sample(others, min(len(others), rng.choice((1, 1, 2)))), last]
    if len(group) > 1 and kind < 0.35 and sum(q.value for q in group) <= SMALL:
        names = [q.owner for q in group]
        ask = f"How many {item} did {', '.join(names[:-1])} and {names[-1]} {do} together?"
        facts, expression, total = sum_of(group)
        skill = "total of two" if len(group) == 2 else "total of three"
        return ask, group, line_of(f"{facts}, and", expression, "together they have", skill, total)
    if others and kind < 0.5:
        a, b = sorted((rng.choice(others), last), key=lambda q: -q.value)
        ask = f"How many more {item} did {a.owner} {do} than {b.owner}?"
        fact = f"{a.owner} has {a.value} and {b.owner} has {b.value}, and"
        gap = a.value - b.value
        return ask, [a, b], line_of(fact, f"{a.value} - {b.value}", "the difference is", "difference", gap)
    if last.value <= SMALL // 2 and kind < 0.8:
        price = rng.randint(2, min(9, SMALL // max(1, last.value)))
        ask = f"{last.owner} gets ${price} for each of them. How many dollars is that?"
        fact = f"{last.owner} has {last.value} and gets ${price} for each, and"
        paid = last.value * price
        return ask, [last], line_of(fact, f"{last.value} * {price}", "the pay in dollars is", "money", paid)
    return f"How many {item} did {last.owner} {do}?", [last], None


def _needed(roots: Sequence[Quantity]) -> set[int]:
    """Identities of all quantities on which the roots depend."""
    seen: set[int] = set()
    todo = list(roots)
    while todo:
        q = todo.pop()
        if id(q) not in seen:
            seen.add(id(q))
            todo.extend(q.sources)
    return seen


def _distractor(s: Story) -> str:
    return s.rng.choice(DISTRACTORS).format(
        name=s.rng.choice(s.names),
        place=s.theme.place,
        small=s.rng.randint(10, 50),
        tiny=s.rng.randint(2, 9),
    )


def plan(rng: random.Random, mix: Mix) -> tuple[int, int]:
    """Draw how many quantities a problem has, and how many of them are hard."""
    size = rng.choice(mix.sizes)
    return size, min(rng.choices((0, 1, 2, 3), mix.hard)[0], max(1, (size + 1) // 2))


def tell(rng: random.Random, mix: Mix, size: int, hard: int) -> NanoProblem | None:
    """Draw one story; None if it is too long or has a quantity that its question does not need.

    The id is a hash of the normalised question.
    """
    theme = rng.choice(THEMES)
    names = rng.sample(NAMES, 16)
    story = Story(rng, theme, rng.choice(theme.items), names, mix)
    grow(story, size, hard)
    ask, roots, last = _ask(story)
    steps = [line for q in story.quantities for line in q.lines] + ([last] if last else [])
    needed = _needed(roots)
    idle = any(q.lines and id(q) not in needed for q in story.quantities)
    if idle or not 1 <= len(steps) <= 11 or max(x.value for x in steps) >= 10_000:
        return None
    sentences = [q.sentence for q in story.quantities]
    for _ in range(rng.choice(mix.distractors)):
        sentences.insert(rng.randrange(1, len(sentences) + 1), _distractor(story))
    if rng.random() < 0.3:
        sentences.insert(0, rng.choice(OPENINGS).format(place=theme.place))
    question = " ".join([*sentences, ask])
    answer = str(steps[-1].value)
    closing = GoldStep(f"The answer is {answer}.", "answer", steps[-1].value)
    labels = {"lines": str(len(steps) + 1)}
    return NanoProblem(f"nano-{digest(question):016x}", question, answer, labels, (*steps, closing))


def split_of(question: str) -> str:
    """The only split that may hold this question: 70% train, 10% each for the other three."""
    bucket = digest(question) % 10
    return SPLITS[max(0, bucket - 6)]


def problems(split: str, seed: int = 0, mix: Mix = STANDARD) -> Iterator[NanoProblem]:
    """An endless stream of distinct problems of one split.

    Raises:
        ConfigError: if ``split`` is not one of `SPLITS`.
    """
    if split not in SPLITS:
        raise ConfigError(f"split must be one of {', '.join(SPLITS)}, not {split!r}.")
    rng = random.Random(f"{split}-{seed}")
    gaps = known_gaps(split) if (seed, mix) == (0, STANDARD) else iter(())
    seen: set[str] = set()
    while True:
        others, stories = next(gaps, (0, 0))
        skip(rng, others)
        size, hard = plan(rng, mix)
        skip(rng, stories)
        while (problem := tell(rng, mix, size, hard)) is None:
            pass
        if problem.id not in seen and split_of(problem.question) == split:
            seen.add(problem.id)
            yield problem
