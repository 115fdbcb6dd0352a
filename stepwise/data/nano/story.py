"""Stories of quantities: what a person has, how the question tells it, and the lines that work it out.

Every function of a `Story` adds one quantity of a certain skill, or returns None where none fits.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from stepwise.data.nano.words import FRACTIONS, MULTIPLES, Theme

SMALL = 99  # sums and differences stay among one- and two-digit numbers
PERCENTS = (15, 20, 25, 30, 35, 40, 45, 60, 75, 80)


@dataclass(frozen=True, slots=True)
class GoldStep:
    """A correct line of reasoning: its text, the skill it needs, and the number it ends in."""

    text: str
    skill: str
    value: int


@dataclass
class Quantity:
    """How many things a person has: a sentence of the question and the lines that work it out."""

    owner: str
    value: int
    sentence: str
    sources: tuple[Quantity, ...] = ()
    lines: tuple[GoldStep, ...] = ()


@dataclass(frozen=True)
class Mix:
    """Which problems are drawn how often.

    Attributes:
        sizes: numbers of quantities, each as likely as the next.
        hard: weights of problems with 0, 1, 2 and 3 hard quantities.
        early: probability that a hard quantity comes next while some are left.
        bases: hard quantities that refer to nobody, each as likely as the next.
        near: share of references that go to the last loose end rather than anywhere back.
        base: probability that an early person's quantity refers to nobody.
        percent: share of percentages among the hard steps.
        halved: fractions are taken of numbers up to this.
        easy: share of multiples and fractions among the links that are not hard.
        direct: share of the closing questions that are kept from looking back at several people.
        distractors: numbers of sentences that do not matter, each as likely as the next.
    """

    sizes: tuple[int, ...]
    hard: tuple[int, ...]
    early: float
    bases: tuple[str, ...]
    percent: float
    halved: int
    near: float
    base: float
    easy: float
    direct: float
    distractors: tuple[int, ...]


STANDARD = Mix(
    sizes=(1, 3, 4, 5, 6, 6, 7, 7, 8, 8, 9, 10),
    hard=(22, 66, 12, 0),
    early=1.0,
    bases=("left", "left", "left", "left", "both", "both", "both", "split"),
    percent=0.04,
    halved=SMALL,
    near=0.96,
    base=0.03,
    easy=0.993,
    direct=0.5,
    distractors=(0, 0, 0, 1, 1),
)
HARDER = replace(STANDARD, sizes=(7, 8, 9, 10), hard=(0, 30, 70, 0), early=0.6)
"""More hard steps, some of them late, more looking back: what a policy trained on `STANDARD` has not seen."""
BRIDGE = Mix(
    sizes=(1, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 8, 9),
    hard=(10, 90, 0, 0),
    early=0.75,
    bases=("groups",),
    percent=0.05,
    halved=400,
    near=0.9,
    base=0.15,
    easy=0.8,
    direct=0.47,
    distractors=(0, 0, 1, 1, 2),
)
"""For training, between the other two: products, and long chains of multiples and fractions."""
TRAINING = Mix(
    sizes=(1, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 8, 9),
    hard=(30, 20, 25, 25),
    early=0.75,
    bases=("groups", "split", "split"),
    percent=0.4,
    halved=400,
    near=0.25,
    base=0.55,
    easy=0.0,
    direct=0.0,
    distractors=(0, 0, 1, 1, 2),
)
"""For training: looking things up pays. Where most references go to the line before, copying from there is
an answer that is hard to leave behind."""


@dataclass
class Story:
    """A problem under construction."""

    rng: random.Random
    theme: Theme
    item: str
    names: list[str]
    mix: Mix
    quantities: list[Quantity] = field(default_factory=list)
    loose: list[Quantity] = field(default_factory=list)
    """Quantities that nothing refers to yet."""

    def add(self, new: Quantity) -> None:
        self.quantities.append(new)
        self.loose = [q for q in self.loose if not any(q is source for source in new.sources)]
        self.loose.append(new)

    def pick(self, accept: Callable[[Quantity], bool]) -> Quantity | None:
        """A quantity to refer to: usually a loose end, at times something further back."""
        last = next((q for q in reversed(self.loose) if accept(q)), None)
        if last is not None and self.rng.random() < self.mix.near:
            return last
        options = [q for q in self.quantities if accept(q)]
        return self.rng.choice(options) if options else None


def line_of(fact: str, expression: str, result: str, skill: str, value: int) -> GoldStep:
    """ "Ben picked 4 dozen plums, and 4 * 12 = 48, so Ben has 48." """
    return GoldStep(f"{fact} {expression} = {value}, so {result} {value}.\n", skill, value)


def _base(owner: str, fact: str, expression: str, skill: str, value: int) -> Quantity:
    """A quantity that follows from the numbers in its own sentence."""
    line = line_of(f"{fact}, and", expression, f"{owner} has", skill, value)
    return Quantity(owner, value, f"{fact}.", (), (line,))


def _given(s: Story, round_number: bool = False) -> Quantity:
    owner = s.names.pop()
    round_number = round_number or s.rng.random() < 0.3
    n = 20 * s.rng.randint(1, 10) if round_number else s.rng.randint(4, 60)
    fact = f"{owner} {s.theme.did} {n} {s.item}"
    return Quantity(owner, n, f"{fact}.", (), (GoldStep(f"{fact}, so {owner} has {n}.\n", "given", n),))


def _groups(s: Story) -> Quantity:
    owner, m, n = s.names.pop(), s.rng.randint(12, 24), s.rng.randint(11, 16)
    fact = f"{owner} {s.theme.filled} {m} {s.rng.choice(s.theme.groups)} with {n} {s.item} each"
    return _base(owner, fact, f"{m} * {n}", "groups", m * n)


def _split(s: Story) -> Quantity:
    owner, m, n = s.names.pop(), s.rng.randint(12, 29), s.rng.randint(12, 39)
    groups = s.rng.choice(s.theme.groups)
    fact = f"{owner} split {m * n} {s.item} evenly into {m} {groups} and kept one of them"
    return _base(owner, fact, f"{m * n} / {m}", "split", n)


def _left(s: Story) -> Quantity:
    owner, n = s.names.pop(), s.rng.randint(40, SMALL)
    k = s.rng.randint(11, n - 12)
    fact = f"{owner} {s.theme.did} {n} {s.item} and lost {k} of them"
    return _base(owner, fact, f"{n} - {k}", "left", n - k)


def _both(s: Story) -> Quantity:
    owner, m = s.names.pop(), s.rng.randint(12, SMALL - 12)
    n = s.rng.randint(12, SMALL - m)
    fact = f"{owner} {s.theme.did} {m} {s.item} in May and {n} in June"
    return _base(owner, fact, f"{m} + {n}", "both", m + n)


def _few_groups(s: Story) -> Quantity:
    owner, m, n = s.names.pop(), s.rng.randint(2, 9), s.rng.randint(3, 9)
    fact = f"{owner} {s.theme.filled} {m} {s.rng.choice(s.theme.groups)} with {n} {s.item} each"
    return _base(owner, fact, f"{m} * {n}", "few groups", m * n)


def _dozens(s: Story) -> Quantity:
    owner, m = s.names.pop(), s.rng.randint(2, 8)
    return _base(owner, f"{owner} {s.theme.did} {m} dozen {s.item}", f"{m} * 12", "dozens", m * 12)


def _weeks(s: Story) -> Quantity:
    owner, weeks, rate = s.names.pop(), s.rng.randint(2, 5), s.rng.randint(11, 29)
    days, total = 7 * weeks, 7 * weeks * rate
    fact = f"{owner} {s.theme.did} {rate} {s.item} a day for"
    lines = (
        line_of(f"{fact} {weeks} weeks, and", f"{weeks} * 7", "the number of days is", "weeks", days),
        line_of(f"{fact} {days} days, and", f"{rate} * {days}", f"{owner} has", "rate", total),
    )
    return Quantity(owner, total, f"{fact} {weeks} weeks.", (), lines)


def _derived(s: Story, source: Quantity, skill: str, relation: str, sign: str, value: int) -> Quantity:
    """A quantity that stands in a relation to another person's."""
    owner = s.names.pop()
    sentence = f"{owner} {s.theme.did} {relation} {source.owner}."
    fact = f"{sentence} {source.owner} has {source.value}, and"
    line = line_of(fact, f"{source.value} {sign}", f"{owner} has", skill, value)
    return Quantity(owner, value, sentence, (source,), (line,))


def _more(s: Story) -> Quantity | None:
    source = s.pick(lambda q: q.value + 12 <= SMALL)
    if source is None:
        return None
    k = s.rng.randint(2, 12)
    return _derived(s, source, "more", f"{k} more {s.item} than", f"+ {k}", source.value + k)


def _fewer(s: Story) -> Quantity | None:
    source = s.pick(lambda q: 6 <= q.value <= SMALL)
    if source is None:
        return None
    k = s.rng.randint(2, min(12, source.value - 2))
    return _derived(s, source, "fewer", f"{k} fewer {s.item} than", f"- {k}", source.value - k)


def _times(s: Story) -> Quantity | None:
    source = s.pick(lambda q: 2 <= q.value <= SMALL // 2)
    if source is None:
        return None
    k = s.rng.choice([m for m in MULTIPLES if m * source.value <= SMALL])
    return _derived(s, source, "times", f"{MULTIPLES[k]} as many {s.item} as", f"* {k}", source.value * k)


@cache
def _divisors(value: int) -> tuple[int, ...]:
    return tuple(d for d in FRACTIONS if value % d == 0)


@cache
def _percents(value: int) -> tuple[int, ...]:
    return tuple(p for p in PERCENTS if value * p % 100 == 0)


def _fraction(s: Story) -> Quantity | None:
    source = s.pick(lambda q: q.value <= s.mix.halved and bool(_divisors(q.value)))
    if source is None:
        return None
    k = s.rng.choice(_divisors(source.value))
    return _derived(s, source, "fraction", f"{FRACTIONS[k]} as many {s.item} as", f"/ {k}", source.value // k)


def _percent(s: Story) -> Quantity | None:
    source = s.pick(lambda q: 20 <= q.value <= 400 and bool(_percents(q.value)))
    if source is None:
        return None
    p = s.rng.choice(_percents(source.value))
    value = source.value * p // 100
    return _derived(s, source, "percent", f"{p}% as many {s.item} as", f"* {p} / 100", value)


def sum_of(group: Sequence[Quantity]) -> tuple[str, str, int]:
    """ "Anna has 4 and Ben has 5", "4 + 5", 9."""
    facts = [f"{q.owner} has {q.value}" for q in group]
    expression = " + ".join(str(q.value) for q in group)
    return f"{', '.join(facts[:-1])} and {facts[-1]}", expression, sum(q.value for q in group)


def _combined(s: Story) -> Quantity | None:
    def pairs(options: Sequence[Quantity]) -> list[tuple[Quantity, Quantity]]:
        return [(a, b) for a in options for b in options if a is not b and a.value + b.value <= SMALL]

    options = pairs(s.loose) or pairs(s.quantities)
    if not options:
        return None
    a, b = s.rng.choice(options)
    owner, (facts, expression, value) = s.names.pop(), sum_of((a, b))
    sentence = f"{owner} {s.theme.did} as many {s.item} as {a.owner} and {b.owner} together."
    line = line_of(f"{sentence} {facts}, and", expression, f"{owner} has", "combined", value)
    return Quantity(owner, value, sentence, (a, b), (line,))


HARD_BASES = {"groups": _groups, "split": _split, "left": _left, "both": _both}
EASY_BASES = (_given, _given, _few_groups, _few_groups, _dozens, _weeks)
LINKS = (_more, _more, _fewer, _fewer, _times, _fraction, _combined)
EASY_LINKS = (_times, _fraction)


def _hard(s: Story) -> Quantity:
    """A quantity with a hard step: a percentage where one works out, else a two-digit product or quotient."""
    if s.rng.random() < s.mix.percent:
        if not s.quantities:
            s.add(_given(s, round_number=True))
        percent = _percent(s)
        if percent is not None:
            return percent
    return HARD_BASES[s.rng.choice(s.mix.bases)](s)


def grow(s: Story, size: int, hard: int) -> None:
    """Add ``size`` quantities of which ``hard`` are hard; the hard ones tend to come first."""
    while len(s.quantities) < size and len(s.names) > 2:
        new: Quantity | None
        if hard and s.rng.random() < s.mix.early:
            new, hard = _hard(s), hard - 1
        elif not s.quantities or (len(s.quantities) < 4 and s.rng.random() < s.mix.base):
            new = s.rng.choice(EASY_BASES)(s)
        elif len(s.loose) > 2 and s.rng.random() < 0.8:
            new = _combined(s)
        else:
            easy = s.mix.easy > 0 and s.rng.random() < s.mix.easy
            new = s.rng.choice(EASY_LINKS if easy else LINKS)(s) or s.rng.choice(EASY_BASES)(s)
        if new is not None:
            s.add(new)
