"""The observation of a learned router: numbers read off a trace, the same in training and serving.

A policy has its own list of features (``policy.features`` in training; the artifact carries it), given by
name or by group. ``signals`` are the default. To add a feature, declare it in `GROUPS`: the observation, its
bounds, the error that lists the known names, and these tables all follow.

TABLES

Values are clipped to their range. Where a length or a sum of logarithms is divided by a number, that number
fits nano's chains and is only the default: a training fits it to its own chains (`fit`), and the artifact
keeps it, so that a policy for longer steps is not blind to them. Draft features are 0 where no draft is
waiting (``before``), and describe one token where a probe is. ``verified`` is what the most expensive model
thinks of the draft, all 0 where it has not read it. Estimates are SCOPE's, made before the chain begins, and
need an engine with a ``prior``; the verdict needs a pair with a judge and ``look=judged``. Everything else
comes from measured usage, signals and the question.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from stepwise.errors import ConfigError, NoSignal, StepwiseError
from stepwise.routers import question
from stepwise.routers.judged import ProcessReward
from stepwise.types import Estimate, Signals, Step, Trace, Verdict

LN_20 = math.log(20)
T = TypeVar("T")
Scales = tuple[tuple[str, float], ...]
"""Fitted scales: (feature, what its number is divided by)."""
Source = Callable[[Trace, str, str], T | None]
"""(trace, cheapest model, most expensive model) -> what features are computed from; None where there is
nothing to see, and they are 0."""


def as_it_is(scaled: float) -> float:
    """No further squeezing of a scaled value."""
    return scaled


@dataclass(frozen=True)
class Scale:
    """What a feature's number is divided by before it is clipped.

    Attributes:
        default: what fits nano's chains.
        covers: a fitted scale is at least as large as this share of the sizes of the numbers seen.
        shape: applied to the quotient.
    """

    default: float
    covers: float = 0.99
    shape: Callable[[float], float] = as_it_is


@dataclass(frozen=True)
class Feature(Generic[T]):
    """One number of an observation.

    Attributes:
        name: as artifacts and configurations say it.
        meaning: in one line.
        source: what it is computed from; features side by side share what it gives.
        value: the number, from that.
        low: the least value; smaller ones are clipped.
        high: the largest value; larger ones are clipped.
        scale: of the number, where chains of other lengths need another one.
    """

    name: str
    meaning: str
    source: Source[T]
    value: Callable[[T], float]
    low: float = 0.0
    high: float = 1.0
    scale: Scale | None = None

    def scaled(self, scales: Scales) -> Callable[[T], float]:
        """`value`, scaled as ``scales`` say or by default."""
        if self.scale is None:
            return self.value
        value, shape = self.value, self.scale.shape
        by = dict(scales).get(self.name, self.scale.default)
        return lambda seen: shape(value(seen) / by)


@dataclass(slots=True)
class Progress:
    """The steps so far, and what several features read off them."""

    steps: tuple[Step, ...]
    accepted: list[float]  # of each draft: log-probability of its least likely token
    small: str
    prompt: int
    unread: int


def draft(trace: Trace, small: str, large: str) -> Signals | None:
    """Signals of the draft; None where there is no draft.

    Raises:
        NoSignal: if its backend gave no log-probabilities.
    """
    if trace.draft is None:
        return None
    if not trace.draft.signals.known:
        raise NoSignal(f"the draft of model {trace.draft.model!r} came without log-probabilities")
    return trace.draft.signals


def judge(trace: Trace, small: str, large: str) -> Verdict | None:
    """What a judge said of the draft."""
    if trace.draft is None:
        return None
    if trace.draft.verdict is None:
        raise StepwiseError(
            "the policy observes a judge's verdict, and the draft has none; give the pair a judge, and look "
            "`judged`."
        )
    return trace.draft.verdict


def approves(verdict: Verdict) -> float:
    """How much a judge likes what it read, in [0, 1]: a grade from 0 to 9, or the probability of "+".

    Raises:
        NoSignal: if it is no grade, and came without a probability.
    """
    token = verdict.token.strip()
    return int(token) / 9 if len(token) == 1 and token.isdecimal() else ProcessReward().reward(verdict)


def reading(trace: Trace, small: str, large: str) -> Signals | None:
    """What the most expensive model thinks of the draft; nothing where it has not read it."""
    read = trace.draft.reading if trace.draft else None
    if read is None:
        return None
    if not read.signals.known:
        raise NoSignal(f"model {read.model!r} read the draft, and gave no log-probabilities")
    return read.signals


def progress(trace: Trace, small: str, large: str) -> Progress:
    """How far the chain has come, and what the large model has not read of it (in tokens)."""
    steps, unread = trace.steps, trace.prompt_tokens
    accepted = []
    for step in steps:
        if step.model == small:
            accepted.append(-math.inf if step.signals.missing else step.signals.min_logprob)
        unread = 0 if step.model == large else unread + step.length
    return Progress(steps, accepted, small, trace.prompt_tokens, unread)


def estimates(trace: Trace, small: str, large: str) -> tuple[Estimate, Estimate] | None:
    """What was expected of the two models; nothing of a chain that failed before anybody was asked."""
    if trace.stop == "error" and not trace.estimates:
        return None
    by_model = {estimate.model: estimate for estimate in trace.estimates}
    if small not in by_model or large not in by_model:
        raise StepwiseError(
            "the policy observes SCOPE's estimates, and the trace has none; give the engine a prior."
        )
    return by_model[small], by_model[large]


def words(trace: Trace, small: str, large: str) -> tuple[float, ...]:
    """The embedding of the question's words."""
    return question.embedding(trace.problem.question)


GROUPS: Mapping[str, tuple[Feature[Any], ...]] = {
    "signals": (
        Feature("draft_worst", "probability of the draft's least likely token",
                draft, lambda seen: math.exp(seen.min_logprob)),
        Feature("draft_min", "its log-probability / 5",
                draft, lambda seen: seen.min_logprob / 5, low=-1.0, high=0.0),
        Feature("draft_mean", "mean log-probability of the draft's tokens",
                draft, lambda seen: seen.mean_logprob, low=-1.0, high=0.0),
        Feature("draft_entropy", "entropy of the draft's first token / ln 20",
                draft, lambda seen: seen.first_entropy / LN_20),
        Feature("draft_margin", "smallest top-2 probability gap in the draft",
                draft, lambda seen: seen.margin),
        Feature("draft_whole", "probability of the draft as a whole",
                draft, lambda seen: seen.mean_logprob * seen.length, scale=Scale(1.0, 0.5, math.exp)),
        Feature("draft_length", "tokens of the draft / 64",
                draft, lambda seen: seen.length, scale=Scale(64)),
        Feature("position", "steps so far / 16",
                progress, lambda seen: len(seen.steps), scale=Scale(16)),
        Feature("prompt_length", "tokens of the prompt / 256",
                progress, lambda seen: seen.prompt, scale=Scale(256)),
        Feature("unread", "tokens that the most expensive model would have to read first / 512",
                progress, lambda seen: seen.unread, scale=Scale(512)),
        Feature("large_share", "share of the steps so far that the cheapest model did not write",
                progress, lambda seen: 1.0 - len(seen.accepted) / len(seen.steps) if seen.steps else 0.0),
        Feature("large_last", "1 if another than the cheapest model wrote the last step",
                progress, lambda seen: float(bool(seen.steps) and seen.steps[-1].model != seen.small)),
        Feature("worst_accepted", "probability of the least likely token in any accepted draft",
                progress, lambda seen: math.exp(min(seen.accepted)) if seen.accepted else 1.0),
        Feature("trust", "product of the accepted drafts' least token probabilities",
                progress, lambda seen: sum(seen.accepted), scale=Scale(1.0, 0.5, math.exp)),
    ),
    "estimates": (
        Feature("small_right", "probability that the cheapest model alone is right",
                estimates, lambda seen: seen[0].p_correct),
        Feature("large_right", "probability that the most expensive model alone is right",
                estimates, lambda seen: seen[1].p_correct),
        Feature("small_tokens", "tokens that the cheapest model would write / 512",
                estimates, lambda seen: seen[0].tokens, scale=Scale(512)),
        Feature("large_tokens", "tokens that the most expensive model would write / 512",
                estimates, lambda seen: seen[1].tokens, scale=Scale(512)),
    ),
    "question": tuple(
        Feature(f"question_{i}", "signed sums of the question's words by hash, scaled to length 1",
                words, itemgetter(i), low=-1.0)
        for i in range(question.SIZE)
    ),
    "verified": (
        Feature("read", "1 where the most expensive model has read the draft",
                reading, lambda seen: 1.0),
        Feature("read_worst", "probability of the draft's least likely token, as it sees it",
                reading, lambda seen: math.exp(seen.min_logprob)),
        Feature("read_min", "its log-probability / 5",
                reading, lambda seen: seen.min_logprob / 5, low=-1.0, high=0.0),
        Feature("read_mean", "mean log-probability of the draft's tokens, as it sees them",
                reading, lambda seen: seen.mean_logprob, low=-1.0, high=0.0),
        Feature("read_whole", "probability of the draft as a whole, as it sees it",
                reading, lambda seen: math.exp(seen.mean_logprob * seen.length)),
    ),
    "judge": (
        Feature("verdict", "the judge's grade of the draft / 9, or its probability of approval",
                judge, approves),
    ),
}  # fmt: skip
SIGNALS, ESTIMATES, VERIFIED, QUESTION = (
    tuple(feature.name for feature in GROUPS[group])
    for group in ("signals", "estimates", "verified", "question")
)
FEATURES = {feature.name: feature for group in GROUPS.values() for feature in group}


def declare(feature: Feature[Any]) -> None:
    """Make a feature of one's own known in this process, to environments and to policies that name it.

    Raises:
        ConfigError: if its name is taken.
    """
    if feature.name in FEATURES or feature.name in GROUPS:
        raise ConfigError(f"feature {feature.name!r} is declared already; choose another name.")
    FEATURES[feature.name] = feature


def expand(names: Iterable[str]) -> tuple[str, ...]:
    """A list of features in which groups stand for their members.

    Raises:
        ConfigError: if a name is unknown or comes twice, or there is none.
    """
    expanded: list[str] = []
    for name in names:
        expanded += (feature.name for feature in GROUPS[name]) if name in GROUPS else (name,)
    for name in expanded:
        if name not in FEATURES:
            known = ", ".join((*GROUPS, *(row[1] for row in _rows(FEATURES))))
            raise ConfigError(f"features must be among {known}, not {name!r}.")
    if not expanded or len(set(expanded)) != len(expanded):
        listed = ", ".join(expanded) or "empty"
        raise ConfigError(f"features must be a list of different names, not {listed}.")
    return tuple(expanded)


class Plan(NamedTuple):
    """How to compute a list of features: those side by side with one source together."""

    runs: tuple[tuple[Source[Any], tuple[Callable[[Any], float], ...]], ...]
    low: NDArray[np.float32]
    high: NDArray[np.float32]


@lru_cache
def _plan(features: tuple[str, ...], scales: Scales) -> Plan:
    chosen = [FEATURES[name] for name in features]
    runs = groupby(chosen, lambda feature: feature.source)
    return Plan(
        tuple((source, tuple(feature.scaled(scales) for feature in run)) for source, run in runs),
        np.array([feature.low for feature in chosen], np.float32),
        np.array([feature.high for feature in chosen], np.float32),
    )


def bounds(features: tuple[str, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The least and the largest values of features, each [len(features)]."""
    _, low, high = _plan(features, ())
    return low, high


def observe(
    trace: Trace, small: str, large: str, features: tuple[str, ...] = SIGNALS, scales: Scales = ()
) -> NDArray[np.float32]:
    """The observation [len(features)] for a trace.

    Args:
        trace: the chain so far, with the draft that the router asked for.
        small: name of the cheapest model, the one that drafts.
        large: name of the most expensive model.
        features: what to observe, in order.
        scales: those that were fitted; the others are nano's.

    Raises:
        NoSignal: if a draft waits that came without log-probabilities. One that has been accepted counts as
            doubted.
        StepwiseError: if estimates are asked for and the trace has none.
    """
    runs, low, high = _plan(features, scales)
    numbers: list[float] = []
    for source, values in runs:
        seen = source(trace, small, large)
        numbers += [0.0] * len(values) if seen is None else [value(seen) for value in values]
    observation = np.array(numbers, np.float32)
    np.maximum(observation, low, observation)  # in place: this runs at every step
    return np.minimum(observation, high, observation)


def fit(chains: Iterable[Trace], small: str, large: str, features: Iterable[str]) -> Scales:
    """Scales under which features tell the steps of these chains apart.

    A length reaches its bound in one look of a hundred, and a product of probabilities is 1/e in the middle
    one. What the chains do not show keeps its default.

    Args:
        chains: as the models wrote them alone; every step is looked at as the draft that it may have been.
    """
    seen = [look for trace in chains for look in _looks(trace)]
    fitted = []
    for feature in (FEATURES[name] for name in features):
        if feature.scale is not None and (sizes := _sizes(feature, seen, small, large)):
            fitted.append((feature.name, float(np.quantile(sizes, feature.scale.covers, method="higher"))))
    return tuple(fitted)


def _looks(trace: Trace) -> Iterator[Trace]:
    """What a router saw of a chain: before each step, and at the end."""
    for done, step in enumerate(trace.steps):
        yield replace(trace, steps=trace.steps[:done], draft=step if step.signals.known else None, stop=None)
    yield replace(trace, draft=None)


def _sizes(feature: Feature[Any], seen: Sequence[Trace], small: str, large: str) -> list[float]:
    """Sizes of a feature's numbers that a scale can tell apart: above 0, and finite."""
    if feature.source is estimates and not all(trace.estimates for trace in seen):
        return []
    sources = (feature.source(trace, small, large) for trace in seen)
    sizes = (abs(feature.value(source)) for source in sources if source is not None)
    return [size for size in sizes if 0.0 < size < math.inf]


def table(features: Iterable[str], others: Iterable[tuple[str, str, str, str]] = ()) -> str:
    """A Markdown table of an observation: index, name, range and meaning of its features, then other rows."""
    rows = [("index", "name", "range", "meaning"), *_rows(features), *others]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    ruled = [rows[0], ["-" * width for width in widths], *rows[1:]]
    lines = ([cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in ruled)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _rows(features: Iterable[str]) -> list[tuple[str, str, str, str]]:
    """The table's rows; neighbours with one meaning share theirs."""
    rows = []
    for meaning, run in groupby(enumerate(features), lambda numbered: FEATURES[numbered[1]].meaning):
        numbered = list(run)
        ends = numbered[:1] if len(numbered) == 1 else [numbered[0], numbered[-1]]
        index, name = (" .. ".join(map(str, parts)) for parts in zip(*ends, strict=True))
        feature = FEATURES[ends[0][1]]
        rows.append((index, name, f"[{feature.low:g}, {feature.high:g}]", meaning))
    return rows


__doc__ = __doc__.replace(
    "TABLES", "\n\n".join(f"``{group}``\n\n{table(f.name for f in GROUPS[group])}" for group in GROUPS)
)
