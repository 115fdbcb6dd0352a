"""Routing as a score and a threshold: a scorer says how much a step needs the large model.

Confidence rules, judges, reward models and learned policies are all scorers, so that one router
serves them and one calibrator fits them.

A draft without log-probabilities is not a confident one: where a scorer has no signal (`NoSignal`), the large
model writes the step, and the decision says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Literal, Protocol

from stepwise.engine.deciding import check_parts, written
from stepwise.errors import ConfigError, NoSignal, RouterError, StepwiseError
from stepwise.types import Decision, Look, Signals, Step, Trace, expects


class Scorer(Protocol):
    """A number per trace; larger means a greater need for the large model. `NoSignal` where the model did not
    give what the number is made of."""

    @property
    def look(self) -> Look:
        """What it wants to see before it scores."""
        ...

    def score(self, trace: Trace) -> float:
        """The need for the large model.

        Raises:
            NoSignal: if a model did not give what the number is made of.
            StepwiseError: if what ``look`` names is not in the trace.
        """
        ...


def check_threshold(value: object) -> None:
    """Refuse a threshold that nothing can be compared with.

    Raises:
        ConfigError: if it is not a number.
    """
    if not _comparable(value):
        raise ConfigError(f"threshold must be a number, not {value!r}.")


def check_score(value: object, scorer: Scorer) -> None:
    """Refuse a score that cannot be compared with a threshold: the scorer may be anybody's.

    Raises:
        RouterError: naming the scorer's line if it is not a number.
    """
    if not _comparable(value):
        where = f"score of {type(scorer).__name__} ({written(scorer.score)})"
        raise RouterError(f"{where} must return a number, not {value!r:.80}.")


def _comparable(value: object) -> bool:
    return isinstance(value, Real) and value == value


@dataclass(frozen=True)
class ThresholdRouter:
    """``large`` writes the step when the score reaches the threshold, else ``small`` does."""

    scorer: Scorer
    threshold: float
    name: str
    small: str = "small"
    large: str = "large"

    def __post_init__(self) -> None:
        check_threshold(self.threshold)
        check_parts("scorer", self.scorer, ("look", "score"))

    @property
    def look(self) -> Look:
        """The scorer's."""
        return self.scorer.look

    @property
    def expects(self) -> bool:
        """Whether the scorer reads the trace's estimates."""
        return expects(self.scorer)

    def decide(self, trace: Trace) -> Decision:
        """``large`` from the threshold on; also where the scorer has no signal."""
        try:
            score = self.scorer.score(trace)
        except NoSignal as missing:
            return Decision(self.large, None, f"no signal: {missing}")
        check_score(score, self.scorer)
        model = self.large if score >= self.threshold else self.small
        sign = ">=" if score >= self.threshold else "<"
        return Decision(model, score, f"score {score:.3g} {sign} {self.threshold:.3g}")


@dataclass(frozen=True)
class Confidence:
    """How unsure the small model was of its own draft: minus a log-probability, in nats.

    ``of="min"`` takes the least likely token, ``of="mean"`` the mean over the draft.
    """

    of: Literal["min", "mean"] = "min"
    look: Look = "after_draft"

    def __post_init__(self) -> None:
        if self.of not in ("min", "mean"):
            raise ConfigError(f"of must be 'min' or 'mean', not {self.of!r}.")

    def score(self, trace: Trace) -> float:
        """-log p of the waiting draft, in nats.

        Raises:
            NoSignal: if it came without log-probabilities.
        """
        signals = waiting_signals(trace)
        return -(signals.min_logprob if self.of == "min" else signals.mean_logprob)


@dataclass(frozen=True)
class Verified:
    """How unlikely the most expensive model thinks the draft that it has read: minus a log-probability, in
    nats.

    ``of="min"`` takes the least likely token, ``of="mean"`` the mean over the draft.
    """

    of: Literal["min", "mean"] = "min"
    look: Look = "verified"

    def __post_init__(self) -> None:
        if self.of not in ("min", "mean"):
            raise ConfigError(f"of must be 'min' or 'mean', not {self.of!r}.")

    def score(self, trace: Trace) -> float:
        """-log p of the waiting draft under the model that read it, in nats.

        Raises:
            NoSignal: if it was not read, or that model gave no log-probabilities.
        """
        read = waiting_reading(trace)
        return -(read.min_logprob if self.of == "min" else read.mean_logprob)


@dataclass(frozen=True)
class FirstTokenEntropy:
    """Entropy in nats of the next step's first token under the small model.

    GlimpRouter (arXiv 2601.05110): the large model writes the step when it is >= 1.0.
    """

    look: Look = "probe"

    def score(self, trace: Trace) -> float:
        """Of the probed token, in nats.

        Raises:
            NoSignal: if it came without log-probabilities.
        """
        return waiting_signals(trace).first_entropy


def waiting_signals(trace: Trace) -> Signals:
    """What the draft's probabilities say.

    Raises:
        NoSignal: if its model gave none.
    """
    draft = waiting_draft(trace)
    if not draft.signals.known:
        raise NoSignal(f"the draft of model {draft.model!r} came without log-probabilities")
    return draft.signals


def waiting_reading(trace: Trace) -> Signals:
    """What the model that has read the draft thinks of it.

    Raises:
        NoSignal: if it did not read it, or does not tell.
    """
    reading = waiting_draft(trace).reading
    if reading is None or not reading.signals.known:
        raise NoSignal("the draft was not read, or came back without log-probabilities")
    return reading.signals


def waiting_draft(trace: Trace) -> Step:
    """The draft that a router asked to see."""
    if trace.draft is None:
        raise StepwiseError("this scorer looks at a draft, and the trace has none waiting.")
    return trace.draft
