"""What measured usage costs, in one of four units.

All of them charge for everything that a server had to do: the uncached part of every prompt (also
the other model's steps after a switch), kept tokens, and tokens that were thrown away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from stepwise.errors import ConfigError
from stepwise.types import Usage


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Dollars per million tokens. Cached input costs as much as input unless given."""

    input: float
    output: float
    cached_input: float | None = None

    def __post_init__(self) -> None:
        for name in ("input", "output", "cached_input"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ConfigError(f"price: {name} must be a number of dollars, at least 0, not {value}.")


class Speed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Measured seconds: of an uncached prompt token, of a generated token, and of a call on top."""

    prefill: float
    decode: float
    call: float

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ConfigError(f"speed: {name} must be a number of seconds, at least 0, not {value}.")


class CostModel(Protocol):
    """Prices measured usage by model name."""

    @property
    def unit(self) -> str: ...

    def __call__(self, usage: Mapping[str, Usage]) -> float: ...


@dataclass(frozen=True, slots=True)
class Tokens:
    """Computed tokens of every model, each counting one."""

    unit: str = "tokens"

    def __call__(self, usage: Mapping[str, Usage]) -> float:
        return float(sum(_computed(part) for part in usage.values()))


@dataclass(frozen=True, slots=True)
class Flops:
    """2 x parameters x computed tokens (Kaplan et al. 2020, section 2.1, forward pass).

    A prefill token costs as much as a generated one. Attention's share, small at these lengths,
    is left out.
    """

    parameters: Mapping[str, int]
    unit: str = "FLOPs"

    def __call__(self, usage: Mapping[str, Usage]) -> float:
        return sum(2.0 * self._size(model) * _computed(part) for model, part in usage.items())

    def _size(self, model: str) -> int:
        size = self.parameters.get(model)
        if size is None:
            raise ConfigError(f"model {model!r} has no known size; add it to the pair.")
        return size


@dataclass(frozen=True, slots=True)
class Dollars:
    """List prices of an API: input, cached input and output differ."""

    prices: Mapping[str, Price]
    unit: str = "$"

    def __call__(self, usage: Mapping[str, Usage]) -> float:
        return sum(self._one(model, part) for model, part in usage.items())

    def _one(self, model: str, usage: Usage) -> float:
        price = self.prices.get(model)
        if price is None:
            raise ConfigError(f"model {model!r} has no price; add one to the pair or use cost=flops.")
        cached = price.input if price.cached_input is None else price.cached_input
        micro = (
            (usage.prompt - usage.cached) * price.input
            + usage.cached * cached
            + (usage.completion + usage.discarded) * price.output
        )
        return micro * 1e-6


@dataclass(frozen=True, slots=True)
class Seconds:
    """How long the calls of a chain take one after the other, by measured speeds. Cached tokens take none."""

    speeds: Mapping[str, Speed]
    unit: str = "s"

    def __call__(self, usage: Mapping[str, Usage]) -> float:
        return sum(self._one(model, part) for model, part in usage.items())

    def _one(self, model: str, usage: Usage) -> float:
        speed = self.speeds.get(model)
        if speed is None:
            raise ConfigError(f"model {model!r} has no measured speed; measure it or use cost=flops.")
        return (
            (usage.prompt - usage.cached) * speed.prefill
            + (usage.completion + usage.discarded) * speed.decode
            + usage.calls * speed.call
        )


def _computed(usage: Usage) -> int:
    return usage.prompt - usage.cached + usage.completion + usage.discarded
