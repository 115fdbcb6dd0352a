"""Scorers with a few numbers that were fitted offline (`python -m scripts.baselines.fit`)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stepwise.errors import ConfigError, NoSignal
from stepwise.types import Look, Trace

NUMBER = re.compile(r"\d+")


def words(question: str) -> list[str]:
    """What the query-level scorer reads: lower-case words, numbers by their count of digits."""
    masked = NUMBER.sub(lambda number: "#" * len(number[0]), question.lower())
    return re.findall(r"[a-z]+|#+|[^\sa-z#]", masked)


@dataclass(frozen=True)
class LowConfidence:
    """How likely it is that the step before belongs to the unsure kind: STEER (arXiv 2511.06190).

    Steps of the small model are taken to be of two kinds, told apart by the mean log-probability of their
    tokens: a mixture of two Gaussians, fitted offline so that a decision does not depend on what else is in
    flight. After an unsure step the large model writes the next one; STEER's threshold is 0.4.

    Args:
        weights: of the two kinds, the unsure one first.
        means: of the mean log-probability, in nats.
        deviations: standard deviations, in nats.
    """

    weights: tuple[float, float]
    means: tuple[float, float]
    deviations: tuple[float, float]
    small: str = "small"
    look: Look = "before"

    @classmethod
    def load(cls, path: str) -> LowConfidence:
        """Read the mixture that `scripts.baselines.fit` wrote.

        Raises:
            ConfigError: if the file cannot be read.
        """
        fit = _read(path)
        weights, means, deviations = (
            (float(fit[name][0]), float(fit[name][1])) for name in ("weights", "means", "deviations")
        )
        return cls(weights, means, deviations)

    def score(self, trace: Trace) -> float:
        """P(the step before is of the unsure kind); 0 where another model wrote it, or none has.

        Raises:
            NoSignal: if that step came without log-probabilities.
        """
        if not trace.steps or trace.steps[-1].model != self.small:
            return 0.0
        signals = trace.steps[-1].signals
        if signals.missing:
            raise NoSignal(f"the step before, of model {self.small!r}, came without log-probabilities")
        value = signals.mean_logprob
        logs = [
            math.log(weight / deviation) - 0.5 * ((value - mean) / deviation) ** 2
            for weight, mean, deviation in zip(self.weights, self.means, self.deviations, strict=True)
        ]
        return 1.0 / (1.0 + math.exp(min(logs[1] - logs[0], 700.0)))


@dataclass(frozen=True)
class NeedsLarge:
    """Probability that a question needs the large model, by its words: routing by query, as in RouteLLM.

    A logistic regression on word counts (arXiv 2406.18665 learns the probability that the strong model wins
    from preference data; here from which model was right).
    """

    bias: float
    weights: Mapping[str, float] = field(repr=False)
    look: Look = "before"

    @classmethod
    def load(cls, path: str) -> NeedsLarge:
        """Read the regression that `scripts.baselines.fit` wrote.

        Raises:
            ConfigError: if the file cannot be read.
        """
        fit = _read(path)
        return cls(fit["bias"], fit["weights"])

    def score(self, trace: Trace) -> float:
        """P(the question needs the large model), the same at every step."""
        total = self.bias + sum(self.weights.get(word, 0.0) for word in words(trace.problem.question))
        return 1.0 / (1.0 + math.exp(-total))


def _read(path: str) -> dict[str, Any]:
    try:
        fit: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"fitted scorer {path!r} cannot be read; make it with `python -m scripts.baselines.fit`."
        ) from error
    return fit
