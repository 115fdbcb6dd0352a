"""A fingerprint: how one model did on every anchor. It is all that SCOPE needs to know of a model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from stepwise.engine.cost import Price
from stepwise.errors import ConfigError


@dataclass(frozen=True)
class Fingerprint:
    """What a model did on the anchors that it has answered.

    Attributes:
        model: its name.
        anchor_ids: of the answered anchors, each once, in any order.
        correct: per anchor, 1 if the answer was right, 0 if not; a share in [0, 1] where it was asked
            several times.
        tokens: generated tokens per anchor, > 0.
        price: dollars per million tokens; None if unknown (then it has no cost).
        prompt_tokens: prompt tokens per anchor, where they were measured.
        scores: other objectives by name (safety, style, ...), each a number in [0, 1] per anchor.
        anchors: `AnchorSet.digest` of the set that was answered; "" if unknown.
        revision: of the weights. ``prompt``, ``sampling``: how it was asked. Empty if unknown.
        estimated: whether the token counts are estimates, not measured usage.
        cached_tokens: the part of ``prompt_tokens`` that came from the server's cache; none unless given.

    Raises:
        ConfigError: if lengths differ, an anchor occurs twice, or a value is out of its range.
    """

    model: str
    anchor_ids: Sequence[str]
    correct: Sequence[float]
    tokens: Sequence[float]
    price: Price | None = None
    prompt_tokens: Sequence[float] | None = None
    scores: Mapping[str, Sequence[float]] = field(default_factory=dict)
    anchors: str = ""
    revision: str = ""
    prompt: str = ""
    sampling: str = ""
    estimated: bool = False
    cached_tokens: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if not self.model:
            raise ConfigError("fingerprint: model must not be empty.")
        object.__setattr__(self, "anchor_ids", tuple(map(str, self.anchor_ids)))
        if not self.anchor_ids:
            raise ConfigError(f"fingerprint of {self.model!r}: anchor_ids must not be empty.")
        twice = [name for name, count in Counter(self.anchor_ids).items() if count > 1]
        if twice:
            raise ConfigError(f"fingerprint of {self.model!r}: anchor {twice[0]!r} occurs twice.")
        self._set("correct", self.correct, 0.0, 1.0)
        self._set("tokens", self.tokens, 1e-9, math.inf)
        if self.prompt_tokens is not None:
            self._set("prompt_tokens", self.prompt_tokens, 0.0, math.inf)
        if self.cached_tokens is not None:
            self._set("cached_tokens", self.cached_tokens, 0.0, math.inf)
            if sum(self.cached_tokens) > sum(self.prompt_tokens or ()):
                raise ConfigError(
                    f"fingerprint of {self.model!r}: cached_tokens are a part of prompt_tokens and must not "
                    "exceed them."
                )
        scores = {name: self._checked(name, values, 0.0, 1.0) for name, values in self.scores.items()}
        object.__setattr__(self, "scores", scores)

    def _set(self, name: str, values: Sequence[float], low: float, high: float) -> None:
        object.__setattr__(self, name, self._checked(name, values, low, high))

    def _checked(self, name: str, values: Sequence[float], low: float, high: float) -> tuple[float, ...]:
        owner = f"fingerprint of {self.model!r}: {name}"
        try:
            numbers = tuple(float(value) for value in values)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{owner} must be numbers: {error}.") from error
        if len(numbers) != len(self.anchor_ids):
            raise ConfigError(
                f"{owner} must have one value per anchor: {len(self.anchor_ids)}, not {len(numbers)}."
            )
        for anchor, number in zip(self.anchor_ids, numbers, strict=True):
            if not (low <= number <= high and math.isfinite(number)):
                wanted = f"in [{low:g}, {high:g}]" if math.isfinite(high) else "finite and positive"
                raise ConfigError(f"{owner} must be {wanted}, not {number} (anchor {anchor!r}).")
        return numbers

    def objective(self, name: str) -> tuple[float, ...]:
        """Values of an objective: "correct", or one of ``scores``.

        Raises:
            ConfigError: if the fingerprint has none of that name.
        """
        if name == "correct":
            return tuple(self.correct)
        if name not in self.scores:
            known = ", ".join(["correct", *self.scores])
            raise ConfigError(
                f"objective {name!r} is unknown to the fingerprint of {self.model!r}, which has {known}."
            )
        return tuple(self.scores[name])

    def priced(self, price: Price | None) -> Fingerprint:
        """The same with a price that is known from elsewhere.

        Raises:
            ConfigError: if it has another one already.
        """
        if price is None or price == self.price:
            return self
        if self.price is not None:
            raise ConfigError(
                f"price of {self.model!r}: its fingerprint says {_shown(self.price)} and the pair "
                f"{_shown(price)} dollars per million tokens (input / output); correct one of them, or "
                "import the table with that pair."
            )
        return replace(self, price=price)

    def stale(self, **now: str) -> list[str]:
        """Which of anchors, revision, prompt and sampling differ from what they are now.

        What is unknown on either side does not count as different.
        """
        return [
            name
            for name in ("anchors", "revision", "prompt", "sampling")
            if getattr(self, name) and now.get(name, "") not in ("", getattr(self, name))
        ]


def _shown(price: Price) -> str:
    return f"{price.input:g} / {price.output:g}"
