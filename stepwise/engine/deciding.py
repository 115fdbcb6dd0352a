"""Asking a router: the one place where the engine calls code that a user wrote.

A mistake there is no property of a problem, so it ends the run, with one sentence that names the router and
the place.
"""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from stepwise.errors import BackendError, RouterError
from stepwise.types import Decision, Look, Router, Trace

LOOKS: tuple[str, ...] = get_args(Look)
PARTS = ("name", "look", "decide")
_LIBRARIES = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), str(Path(__file__).parents[1]))


def check_router(router: object) -> None:
    """Refuse what cannot route, before any work.

    Raises:
        RouterError: if it lacks a part of `stepwise.types.Router`, or looks at what there is not.
    """
    check_parts("router", router, PARTS)
    if isinstance(router, type):
        raise RouterError(f"router must be an object, not the class {router.__name__}; call it.")
    check_look(router, router.look)  # type: ignore[attr-defined]


def check_parts(what: str, thing: object, parts: tuple[str, ...]) -> None:
    """Refuse what lacks a part.

    Raises:
        RouterError: naming the first.
    """
    missing = [part for part in parts if not hasattr(thing, part)]
    if missing:
        kind = thing.__name__ if isinstance(thing, type) else type(thing).__name__
        raise RouterError(f"{what} {kind} has no {missing[0]!r}; it needs {', '.join(parts)}.")


def check_look(router: object, look: object) -> None:
    """Refuse a time to look that there is not.

    Raises:
        RouterError: if ``look`` is none of `LOOKS`.
    """
    if look not in LOOKS:
        name = getattr(router, "name", type(router).__name__)
        raise RouterError(f"router {name!r}: look must be one of {', '.join(LOOKS)}, not {look!r}.")


def decide(router: Router, trace: Trace, models: tuple[str, ...]) -> Decision:
    """What a router decides, checked.

    Args:
        models: that it may choose.

    Raises:
        RouterError: if it raises, returns no `Decision`, or decides for what there is not.
        BackendError: if a model that the router asked cannot be run.
    """
    try:
        decision = router.decide(trace)
    except BackendError:
        raise
    except RouterError as error:  # of a part of the router, which says where it is
        raise RouterError(f"router {router.name!r} {_step(trace)}: {error}") from error
    except Exception as error:
        cause = f"{type(error).__name__}: {error} ({_place(error)})"
        raise RouterError(f"router {router.name!r} failed {_step(trace)}: {cause}") from error
    if not isinstance(decision, Decision):
        raise RouterError(
            f"router {router.name!r} {_step(trace)}: decide ({written(router.decide)}) must return a "
            f"Decision, not {decision!r:.80}."
        )
    if decision.model not in models:
        raise RouterError(
            f"router {router.name!r} {_step(trace)}: model must be one of {', '.join(models)}, "
            f"not {decision.model!r} ({written(router.decide)})."
        )
    if decision.look is not None:
        check_look(router, decision.look)
    return decision


def written(function: Callable[..., Any]) -> str:
    """Where a function of somebody's own begins: file and line; its name where it has none in Python."""
    code = getattr(function, "__code__", None)
    return f"{Path(code.co_filename).name}:{code.co_firstlineno}" if code else repr(function)


def _step(trace: Trace) -> str:
    return f"at step {len(trace.steps) + 1} of problem {trace.problem.id!r}"


def _place(error: Exception) -> str:
    """The innermost line that is the user's own; of a library where none is."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(_LIBRARIES)]
    frame = (own or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"
