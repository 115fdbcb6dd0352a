"""Plain data, as YAML holds it, into typed values; what does not fit is said by field."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import msgspec.inspect
import yaml

from stepwise.errors import ConfigError

T = TypeVar("T", bound=msgspec.Struct)
_PLACE = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<place>[^`]*)`)?", re.DOTALL)
_EXPECTED = re.compile(r"Expected `(?P<expected>[^`]*)`, got `[^`]*`")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>[^`]*)`")
_MISSING = "Object missing required field"
_WORDS = {"object": "a mapping", "array": "a list", "null": "nothing", "str": "text"}


def yaml_mapping(path: str | Path, where: str, what: str) -> Mapping[str, Any]:
    """What a YAML file holds.

    Args:
        where: the setting that names the file.
        what: the file must hold.

    Raises:
        ConfigError: if it cannot be read, is no YAML, or holds no mapping.
    """
    try:
        given = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: {path} could not be read: {error}.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: {path} is no YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(given, Mapping):
        raise ConfigError(f"{where}: {path} must hold {what}, not {given!r}.")
    return given


def read(kind: type[T], given: Any, where: str) -> T:
    """``given`` as a value of a msgspec struct.

    Args:
        where: begins the sentence about what does not fit.

    Raises:
        ConfigError: if a field is unknown, missing, or of another type, or its value is unusable.
    """
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, ConfigError):
            raise ConfigError(f"{where}: {error.__cause__}") from None
        raise ConfigError(f"{where}: {_sentence(str(error), given, kind)}") from None


def _sentence(message: str, given: Any, kind: type[msgspec.Struct]) -> str:
    parts = _PLACE.fullmatch(message)
    what, place = (parts["what"], parts["place"] or "") if parts else (message, "")
    within = f" in {place}" if place else ""
    if unknown := _UNKNOWN.fullmatch(what):
        known = "" if within else f", only {', '.join(kind.__struct_fields__)}"
        return f"there is no field {unknown['field']!r}{within}{known}."
    if what.startswith(_MISSING):
        return "; ".join(_lacking(msgspec.inspect.type_info(kind), given)) + "."
    if expected := _EXPECTED.fullmatch(what):
        words = " or ".join(_WORDS.get(word, word) for word in expected["expected"].split(" | "))
        # Of a mapping's values nobody says which it was.
        came = "" if "[...]" in place else f", not {_at(given, place)!r}"
        return f"{place or 'it'} must be {words}{came}."
    return f"{what}{within}."


def _lacking(kind: msgspec.inspect.Type, given: Any, place: str = "") -> Iterator[str]:
    """Every required field that is missing, with where it belongs."""
    if isinstance(kind, msgspec.inspect.UnionType):
        for each in kind.types:
            yield from _lacking(each, given, place)
    elif isinstance(kind, msgspec.inspect.VarTupleType) and isinstance(given, Sequence):
        for i, item in enumerate(given):
            yield from _lacking(kind.item_type, item, f"{place}[{i}]")
    elif isinstance(kind, msgspec.inspect.DictType) and isinstance(given, Mapping):
        for name, item in given.items():
            yield from _lacking(kind.value_type, item, f"{place}.{name}")
    elif isinstance(kind, msgspec.inspect.StructType) and isinstance(given, Mapping):
        names = [f"`{field.name}`" for field in kind.fields if field.required and field.name not in given]
        if names:
            verb = "are" if len(names) > 1 else "is"
            yield f"{f'in {place}' if place else 'at the top'}, {_listed(names)} {verb} missing"
        for field in kind.fields:
            yield from _lacking(field.type, given.get(field.name), f"{place}.{field.name}".lstrip("."))


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _at(given: Any, place: str) -> Any:
    """The value at a place such as ``models[0].stop``."""
    for key, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", place):
        given = given[int(index)] if index else given[key]
    return given
