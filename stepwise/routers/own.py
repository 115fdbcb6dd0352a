"""Routers of one's own on the command line: an entry point of the group `GROUP`, or ``module:Class``.

The class is called with the threshold, if there is one. What has a ``score`` in the place of a ``decide`` is
a scorer, and its score is compared with the threshold. Only what a user types gets here: a file can never
name code.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from stepwise.engine.deciding import check_router
from stepwise.errors import ConfigError, StepwiseError
from stepwise.routers.roles import in_pool
from stepwise.routers.threshold import Scorer, ThresholdRouter
from stepwise.types import Router

GROUP = "stepwise.routers"


@lru_cache
def installed() -> Mapping[str, EntryPoint]:
    """The routers that installed distributions bring, by name."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def is_own(name: str) -> bool:
    """Whether a name is an installed router's, or has the form ``module:Class``."""
    return name in installed() or ":" in name


def own_router(name: str, threshold: float | None, models: Sequence[str]) -> Router:
    """A router of one's own, with a pool's models in its roles.

    Args:
        threshold: the first argument of its class; None where it takes none.
        models: names, cheapest first.

    Raises:
        ConfigError: if it cannot be imported or made, or cannot route.
    """
    target = _loaded(name)
    try:
        made = target if threshold is None and not callable(target) else _made(target, name, threshold)
    except StepwiseError:
        raise
    except Exception as error:  # of the constructor
        raise ConfigError(
            f"router {name!r} cannot be made: {error}; --threshold is its first argument."
        ) from error
    check_router(made)
    return cast(Router, in_pool(made, models))


def _made(target: Any, name: str, threshold: float | None) -> object:
    if not hasattr(target, "score"):
        return target() if threshold is None else target(threshold)
    scorer: Scorer = target() if isinstance(target, type) else target
    if threshold is None:
        raise ConfigError(f"router {name!r} is a scorer; pass --threshold.")
    return ThresholdRouter(scorer, threshold, name.rpartition(":")[2])


def _loaded(name: str) -> Any:
    entry = installed().get(name) or EntryPoint(name, name, GROUP)
    module, _, wanted = entry.value.partition(":")
    if not (module and wanted):
        raise ConfigError(f"router must be module:Class, not {name!r}.")
    try:
        return entry.load()
    except Exception as error:  # a module may raise anything while it is imported
        lacks = isinstance(error, AttributeError) and module in sys.modules
        why = lacking(module, wanted) if lacks else unimported(error)
        raise ConfigError(f"router {name!r} cannot be imported: {why}") from error


def lacking(module: str, wanted: str) -> str:
    """That a module, once imported, has no such name, and which one may have been meant."""
    near = difflib.get_close_matches(wanted, dir(sys.modules[module]), 1)
    return f"module {module!r} has no {wanted!r}" + (f"; did you mean {near[0]!r}?" if near else ".")


def unimported(error: BaseException) -> str:
    """Why a module cannot be imported: it is not found, or raises."""
    if isinstance(error, ModuleNotFoundError):
        return f"{error}; is its folder in PYTHONPATH?"
    return f"{type(error).__name__}: {error}."
