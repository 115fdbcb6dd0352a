"""Whether models can be run, as far as is known: their circuit breakers, and servers that are gone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stepwise.engine.backend import Backend

STATES = ("ready", "trying again", "failing", "not answering")
UNABLE = ("failing", "not answering")
WORDS = {"closed": "ready", "half-open": "trying again", "open": "failing"}
"""What a breaker's state means to those who ask a gateway."""


def state(backend: Backend) -> str | None:
    """One of `STATES`, or None for a backend without a breaker."""
    presence, breaker = (getattr(backend, part, None) for part in ("presence", "breaker"))
    if presence is not None and presence.gone:
        return "not answering"
    return None if breaker is None else WORDS[breaker.state]


def any_unable(backends: Iterable[Backend]) -> bool:
    """Whether any of them cannot be run now, and is to be tried again later."""
    return any(state(backend) in UNABLE for backend in backends)
