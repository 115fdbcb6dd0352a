"""Settings that several programs share; each program's own are in a dataclass beside it.

A field of type Any holds what ``hydra.utils.instantiate`` builds, from a group of ``configs/``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING

RECORDED = "${oc.env:STEPWISE_DATA,../shared/data}"
"""The folder of recorded solutions and of local copies of benchmarks."""


@dataclass
class Pool:
    """Models that run."""

    pair: Any = MISSING
    backend: str = "transformers"
    store: str = "outputs/steps.db"  # completions seen before; delete it to pay for them again


@dataclass
class Solving(Pool):
    """Models that solve problems."""

    dataset: Any = MISSING


@dataclass
class Routing(Solving):
    """Models that share their work, and what it costs."""

    models: list[str] | None = None  # of the pair, cheapest first; null: the smallest and the largest
    cost: str = "flops"  # or tokens, or dollars
