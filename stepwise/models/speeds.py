"""How fast models are on one machine: what ``cost=seconds`` reads.

``python -m scripts.bench seconds`` measures it and writes the file.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import yaml

from stepwise.engine.cost import Seconds, Speed
from stepwise.errors import ConfigError
from stepwise.models.reading import read, yaml_mapping


class Speeds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Speeds of a pair's models, and what they hold for.

    Attributes:
        machine: where they were measured.
        backend: what ran the models.
        quantisation: of the weights.
        load: calls in flight.
        calls: that the speeds were fitted to.
        error: median relative error on calls that they were not fitted to.
        models: speeds by model name.
    """

    machine: str
    backend: str
    quantisation: str
    load: int
    calls: int
    error: float
    models: dict[str, Speed]

    def __post_init__(self) -> None:
        if not self.models:
            raise ConfigError("models must name at least one model.")


def load_speeds(path: str | Path) -> Seconds:
    """The cost model of a file of measured speeds.

    Raises:
        ConfigError: if the file is missing or no YAML, or a field is unknown, missing or unusable.
    """
    given = yaml_mapping(path, "seconds", "measured speeds")
    return Seconds(read(Speeds, given, f"seconds: {path}").models)


def save_speeds(speeds: Speeds, path: str | Path) -> None:
    """Write what `load_speeds` reads.

    Raises:
        ConfigError: if the file cannot be written.
    """
    try:
        text = yaml.safe_dump(msgspec.to_builtins(speeds), sort_keys=False)
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"seconds: {path} could not be written: {error}.") from error
