"""From a target to a threshold: what a router may spend, or how much accuracy it may lose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from stepwise.calibration.bounds import Table, betting, exact_binomial, hoeffding_bentkus
from stepwise.calibration.record import CalibrationRecord
from stepwise.errors import ConfigError, InfeasibleTarget

Method = Literal["ltt", "hoeffding-bentkus", "crc"]
METHODS = ("ltt", "hoeffding-bentkus", "crc")


@dataclass(frozen=True)
class Calibration:
    """A threshold and what is promised of it.

    Attributes:
        threshold: to be served.
        accuracy, accuracy_loss, cost: measured at it on the calibration split; cost as a fraction
            of large-only, loss as the share of problems that only the large model gets right.
        budget, max_accuracy_loss: the targets; None where not asked for.
        delta: probability that a promise fails; None with "crc", which promises expectations.
        method: how it was found.
        n, split: size and hash of the calibration split.
    """

    threshold: float
    accuracy: float
    accuracy_loss: float
    cost: float
    budget: float | None
    max_accuracy_loss: float | None
    delta: float | None
    method: Method
    n: int
    split: str


def calibrate(
    record: CalibrationRecord,
    *,
    budget: float | None = None,
    max_accuracy_loss: float | None = None,
    delta: float = 0.1,
    method: Method = "ltt",
) -> Calibration:
    """Choose a threshold that meets the targets on new problems of the same kind.

    With probability at least 1 - delta over the calibration split, *all* given targets hold:
    E[cost] <= budget * E[large-only cost], and P(large-only right, router wrong) <=
    max_accuracy_loss, which bounds the drop in accuracy.

    Learn then Test (arXiv 2110.01052) with fixed-sequence testing: the loss is tested from the
    most careful threshold (most steps to the large model) on, the budget from the cheapest on;
    each stops at its first failure, and two targets share delta. Any threshold that passes keeps
    the promise, so the choice among them is free: the most accurate within a budget, the cheapest
    within a loss, the most accurate within both.

    Args:
        record: results by threshold on the calibration split.
        budget: in (0, 1].
        max_accuracy_loss: in (0, 1).
        delta: in (0, 1).
        method: "ltt" tests with the sharpest p-value for the kind of loss (exact binomial for the
            loss of accuracy, betting for cost); "hoeffding-bentkus" uses that bound for both;
            "crc" is conformal risk control (arXiv 2208.02814): the targets hold in expectation
            over calibration splits, without a delta.

    Raises:
        ConfigError: if a target lies outside its range or none is given.
        InfeasibleTarget: if no threshold can be promised to meet the targets; ``best`` is the
            nearest value that can be.
    """
    check_targets(budget, max_accuracy_loss, delta, method)
    targets = {"budget": budget, "max_accuracy_loss": max_accuracy_loss}
    share = delta / sum(value is not None for value in targets.values())
    allowed = np.ones(len(record.thresholds), bool)
    for name, value in targets.items():
        if value is not None:
            passed = _passed(record, name, value, share, method)
            if not passed.any():
                raise _infeasible(record, name, value, share, method)
            allowed &= passed
    if not allowed.any():
        raise _conflict(record, budget or 0.0, max_accuracy_loss or 0.0, share, method)
    options = np.flatnonzero(allowed)
    accuracy, cost = record.accuracy, record.cost_share
    at = min(options, key=(lambda i: cost[i]) if budget is None else (lambda i: (-accuracy[i], cost[i])))
    return Calibration(
        float(record.thresholds[at]), float(accuracy[at]), float(record.losses[at].mean()), float(cost[at]),
        budget, max_accuracy_loss, None if method == "crc" else delta, method, record.n, record.split,
    )  # fmt: skip


def check_targets(
    budget: float | None, max_accuracy_loss: float | None, delta: float = 0.1, method: str = "ltt"
) -> None:
    """Refuse targets that make no sense, before any work.

    Raises:
        ConfigError: if one lies outside its range, or none is given.
    """
    if budget is None and max_accuracy_loss is None:
        raise ConfigError("give a budget, a max_accuracy_loss, or both.")
    if budget is not None and not 0.0 < budget <= 1.0:
        raise ConfigError(
            f"budget must lie in (0, 1] (a fraction of large-only cost, not dollars), not {budget:g}."
        )
    if max_accuracy_loss is not None and not 0.0 < max_accuracy_loss < 1.0:
        raise ConfigError(f"max_accuracy_loss must lie in (0, 1), not {max_accuracy_loss:g}.")
    if not 0.0 < delta < 1.0:
        raise ConfigError(f"delta must lie in (0, 1), not {delta:g}.")
    if method not in METHODS:
        raise ConfigError(f"method must be one of {', '.join(METHODS)}, not {method!r}.")


def _passed(
    record: CalibrationRecord, name: str, value: float, delta: float, method: Method
) -> np.ndarray[Any, Any]:
    """[T] bool: the thresholds at which one target is promised to hold."""
    if name == "budget":
        losses, limit = record.excess(value)
        losses = losses[::-1]  # the cheapest threshold is the most careful
    else:
        losses, limit = record.losses, value
    meets = (
        _controlled(losses, limit) if method == "crc" else _p_values(losses, limit, delta, method) <= delta
    )
    leading = np.logical_and.accumulate(meets)
    return leading[::-1] if name == "budget" else leading


def _controlled(losses: Table, limit: float) -> np.ndarray[Any, Any]:
    """Conformal risk control. It needs losses that rise along the sequence for every problem, which
    routed accuracy does not promise: the running maximum does, and is never below the loss."""
    rising = np.maximum.accumulate(losses, axis=0)
    n = losses.shape[1]
    return np.asarray((n * rising.mean(1) + 1.0) / (n + 1) <= limit)


def _p_values(losses: Table, limit: float, delta: float, method: Method) -> np.ndarray[Any, Any]:
    if method == "hoeffding-bentkus":
        return hoeffding_bentkus(losses, limit)
    binary = bool(np.isin(losses, (0.0, 1.0)).all())
    return exact_binomial(losses, limit) if binary else betting(losses, limit, delta)


def _nearest(promised: Callable[[float], bool], low: float, high: float) -> float:
    """The least value in [low, high] that can be promised; nan if none can."""
    from scipy.optimize import bisect

    if not promised(high):
        return float("nan")
    edge = bisect(lambda value: 0.5 if promised(value) else -0.5, low, high, xtol=1e-4)
    return float(edge + 1e-3)


def _infeasible(
    record: CalibrationRecord, name: str, value: float, delta: float, method: Method
) -> InfeasibleTarget:
    best = _nearest(lambda v: bool(_passed(record, name, v, delta, method).any()), value, 1.0 - 1e-9)
    reach = f"the least that can is {best:.3f}"
    if np.isnan(best):
        least = float(record.cost_share.min())
        dear = name == "budget" and least >= 1
        reach = (
            f"its cheapest setting costs {least:.0%} of large-only" if dear else "none can: take more of them"
        )
    return InfeasibleTarget(
        f"{name} {value:g} cannot be promised from {record.n} calibration problems; {reach}.", best=best
    )


def _conflict(
    record: CalibrationRecord, budget: float, loss: float, delta: float, method: Method
) -> InfeasibleTarget:
    """Each target can be promised, but not by one threshold."""
    careful = _passed(record, "max_accuracy_loss", loss, delta, method)
    best = _nearest(
        lambda v: bool((careful & _passed(record, "budget", v, delta, method)).any()), budget, 1.0
    )
    reach = "no budget up to 1 is enough" if np.isnan(best) else f"it takes a budget of {best:.3f}"
    return InfeasibleTarget(
        f"budget {budget:g} and max_accuracy_loss {loss:g} cannot be promised together: "
        f"for that loss {reach}.",
        best=best,
    )
