"""What packages offer in ``__all__`` says what it is, methods included."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from functools import cached_property
from types import ModuleType
from typing import Any

import envs
import policies
import stepwise

ROOTS = (stepwise, envs, policies)
OURS = tuple(root.__name__ for root in ROOTS)


def packages() -> Iterator[ModuleType]:
    for root in ROOTS:
        yield root
        for module in pkgutil.walk_packages(root.__path__, f"{root.__name__}."):
            if module.ispkg:
                yield importlib.import_module(module.name)


def ours(value: Any) -> bool:
    return str(getattr(value, "__module__", "")).split(".")[0] in OURS


def functions(kind: type) -> Iterator[tuple[str, Any]]:
    """Public methods and properties that a class defines itself."""
    for name, member in vars(kind).items():
        if isinstance(member, property):
            member = member.fget
        elif isinstance(member, cached_property):
            member = member.func
        elif isinstance(member, staticmethod | classmethod):
            member = member.__func__
        if not name.startswith("_") and inspect.isfunction(member) and ours(member):
            yield name, member


def undocumented(package: ModuleType) -> Iterator[str]:
    if not package.__doc__:
        yield package.__name__
    for name in getattr(package, "__all__", ()):
        value = getattr(package, name)
        if ours(value) and (inspect.isclass(value) or inspect.isfunction(value)):
            said = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
            if not said or said.startswith(f"{name}("):  # a dataclass without one is given its signature
                yield f"{package.__name__}.{name}"
            if inspect.isclass(value):
                yield from (f"{package.__name__}.{name}.{m}" for m, f in functions(value) if not f.__doc__)


def test_every_public_name_has_a_docstring() -> None:
    assert [name for package in packages() for name in undocumented(package)] == []
