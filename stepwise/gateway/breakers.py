"""Circuit breakers of backends."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepwise.engine.backend import Backend

STATES = ("closed", "half-open", "open")


def state(backend: Backend) -> str | None:
    """One of `STATES`, or None for a backend without a breaker."""
    breaker = getattr(backend, "breaker", None)
    return None if breaker is None else str(breaker.state)


def any_open(backends: Iterable[Backend]) -> bool:
    """Whether any of them is resting after failures, to be tried again later."""
    return any(state(backend) == "open" for backend in backends)
