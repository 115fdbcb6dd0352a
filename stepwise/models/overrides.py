"""A backend's options from a command line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import yaml

from stepwise.errors import ConfigError
from stepwise.models.model import options_of
from stepwise.models.pair import DEFAULT_BACKEND, Pair


def with_options(pair: Pair, backend: str | None, given: Sequence[str]) -> tuple[Pair, dict[str, Any]]:
    """The pair and the default backend, with options set.

    Args:
        backend: runs the models that name none; None for the default.
        given: ``OPTION=VALUE`` for the default backend, or ``MODEL.OPTION=VALUE`` for a model that names its
            own; values as in YAML.

    Raises:
        ConfigError: if one has another form, there is no such model, backend or option, or the backend would
            run no model.
    """
    if backend is not None and all(model.backend for model in pair.models):
        raise ConfigError(
            f"--backend {backend} would run no model: each of pair {pair.name!r} names a backend of its own; "
            "take those lines out of a copy of its file."
        )
    default: dict[str, Any] = {"name": backend or DEFAULT_BACKEND}
    names = [model.name for model in pair.everyone]
    own: dict[str, dict[str, Any]] = {name: {} for name in names}
    for text in given:
        key, equals, value = text.partition("=")
        model, dot, option = key.rpartition(".")
        if not (equals and option) or (dot and model not in names):
            raise ConfigError(
                f"--backend-option must be OPTION=VALUE or MODEL.OPTION=VALUE with a model of the pair "
                f"({', '.join(names)}), not {text!r}."
            )
        (own[model] if dot else default)[option] = _value(text, value)
    options_of(default)
    models = tuple(m.with_options(**own[m.name]) if own[m.name] else m for m in pair.models)
    return msgspec.structs.replace(pair, models=models), default


def _value(text: str, value: str) -> Any:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--backend-option {text!r}: the value is no YAML.") from error
