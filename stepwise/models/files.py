"""Pairs by name, or from a YAML file such as those in ``configs/pair``.

A file holds the fields of `Pair`, `Model` and `Price`. ``_target_`` and ``_convert_``, which Hydra wants for
the scripts, may be left out here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, replace
from importlib.resources import files
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml

from stepwise.engine.cost import Price
from stepwise.errors import ConfigError
from stepwise.models.pair import Model, Pair

T = TypeVar("T")
PARTS: dict[str, type] = {"models": Model, "judge": Model, "estimator": Model, "price": Price}
"""Fields that have fields of their own."""
NANO = ("small", "middle", "large")


def load_pair(name: str | Path, judge: str | None = None) -> Pair:
    """A pair that ships with stepwise, or one of your own.

    Args:
        name: "nano", or the path of a YAML file.
        judge: checkpoint of a process reward model for it (see `scripts.baselines.prm`).

    Raises:
        ConfigError: if there is none of that name, or the file is unusable.
    """
    if str(name) == "nano":
        folder = Path(str(files("stepwise") / "assets" / "nano"))
        pair = Pair("nano", tuple(Model(one, str(folder / one)) for one in NANO), prompt="{question}\n")
    elif Path(name).suffix in (".yaml", ".yml"):
        pair = read_pair(name)
    else:
        raise ConfigError(
            f"pair must be nano or the path of a YAML file (see configs/pair), not {str(name)!r}; "
            "in Python you may also build a stepwise.Pair."
        )
    return replace(pair, judge=Model("judge", judge)) if judge else pair


def read_pair(path: str | Path) -> Pair:
    """The pair that a file describes. Paths of checkpoints in it are relative to the working directory.

    Raises:
        ConfigError: if the file is missing or no YAML, or a field is unknown, missing or of the wrong type.
    """
    try:
        given = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"pair: {path} could not be read: {error}.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"pair: {path} is no YAML: {' '.join(str(error).split())}.") from error
    if isinstance(given, Mapping) and str(given.get("_target_", "")).endswith("load_pair"):
        return load_pair(str(given.get("name")), given.get("judge"))
    return _build(Pair, given, str(path))


def _build(kind: type[T], given: Any, where: str) -> T:
    if not isinstance(given, Mapping):
        raise ConfigError(f"{where} must hold the fields of a {kind.__name__.lower()}, not {given!r}.")
    values = {name: value for name, value in given.items() if name not in ("_target_", "_convert_")}
    known: dict[str, Field[Any]] = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise ConfigError(f"{where}: there is no field {name!r}, only {', '.join(known)}.")
    for name, field in known.items():
        if name not in values and field.default is MISSING:
            raise ConfigError(f"{where}: the field {name} is missing.")
    hints = get_type_hints(kind)
    return kind(**{name: _value(name, value, hints[name], where) for name, value in values.items()})


def _value(name: str, value: Any, hint: Any, where: str) -> Any:
    if name in PARTS and value is not None:
        if get_origin(hint) is not tuple:
            return _build(PARTS[name], value, f"{where}: {name}")
        many = value if isinstance(value, list) else [value]
        return tuple(_build(PARTS[name], one, f"{where}: {name}[{i}]") for i, one in enumerate(many))
    allowed = get_args(hint) or (hint,)
    if get_origin(hint) is tuple:
        fits = isinstance(value, list) and all(isinstance(one, allowed[0]) for one in value)
    elif isinstance(value, bool):
        fits = bool in allowed
    else:
        fits = isinstance(value, (*allowed, int) if float in allowed else allowed)
    if not fits:
        listed = "a list of " if get_origin(hint) is tuple else ""
        expected = listed + " or ".join(
            "nothing" if one is NoneType else one.__name__ for one in allowed if one is not ...
        )
        raise ConfigError(f"{where}: {name} must be {expected}, not {value!r}.")
    return value
