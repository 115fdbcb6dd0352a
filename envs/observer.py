"""What an agent sees of a chain, and what it is charged for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from stepwise.routers.features import Scales, bounds, expand, observe
from stepwise.types import Trace


def computed(trace: Trace, large: str) -> float:
    """Everything that was computed for a chain, in the engine's unit of cost."""
    return trace.cost


@dataclass(frozen=True)
class Observer:
    """What an agent sees of a chain, and what it is charged for.

    Attributes:
        features: names of the entries of an observation.
        low: their least values [features].
        high: their largest values [features].
        observe: (trace, cheapest model, most expensive model) -> observation [features].
        cost: (trace, most expensive model) -> what the chain has cost.
        scales: of the features, where they were fitted.
    """

    features: tuple[str, ...]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    observe: Callable[[Trace, str, str], NDArray[np.float32]]
    cost: Callable[[Trace, str], float]
    scales: Scales = ()

    @classmethod
    def of(cls, features: Iterable[str], scales: Scales = ()) -> Observer:
        """Sees features and groups of `stepwise.routers.features`, and pays for everything that is computed.

        Args:
            scales: those that `stepwise.routers.features.fit` found; nano's by default.

        Raises:
            ConfigError: if a feature is unknown.
        """
        names = expand(features)
        seen = partial(observe, features=names, scales=scales)
        return cls(names, *bounds(names), seen, computed, scales)


DEFAULT_OBSERVER = Observer.of(["signals"])
"""The signals and the position, which need nothing beyond the pair."""
