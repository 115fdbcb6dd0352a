"""Pairs by name, or from a YAML file such as those in ``configs/pair``.

A file holds the fields of `Pair`, `Model` and `Price`; the scripts' ``_target_`` and ``_convert_`` at its top
may be left out. It is data: nothing in it is imported or run.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec

from stepwise.engine.cost import Price
from stepwise.errors import ConfigError
from stepwise.models.model import Model
from stepwise.models.pair import Pair
from stepwise.models.reading import read, yaml_mapping

NANO = ("small", "middle", "large")
PURPOSE = (
    "nano's tiny models know only sums in stories such as \"Felix packed 78 toys and lost 12 of them. Cara "
    'packed a third as many toys as Felix. How many toys did Cara pack?", with numbers below 100 and some '
    "names (Ben, Cara, Emma, Felix, Olga, Paul, Will); what they say to anything else means nothing."
)
SHIPPED = {"name", "judge"}
"""Fields of configs/pair/nano.yaml, which names the pair that ships."""


class Listed(msgspec.Struct, frozen=True):
    """A model as far as its price goes; other fields are not looked at."""

    name: str
    price: Price | None = None


class PriceList(msgspec.Struct, frozen=True):
    """What `list_prices` reads of a pair's file."""

    models: tuple[Listed, ...]


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
        models = tuple(Model(name, str(folder / name)) for name in NANO)
        pair = Pair("nano", models, prompt="{question}\n", conversation=False, purpose=PURPOSE)
    elif Path(name).suffix in (".yaml", ".yml"):
        pair = read_pair(name)
    else:
        raise ConfigError(
            f"pair must be nano or the path of a YAML file (see configs/pair), not {str(name)!r}; "
            "in Python you may also build a stepwise.Pair."
        )
    return msgspec.structs.replace(pair, judge=Model("judge", judge)) if judge else pair


def read_pair(path: str | Path) -> Pair:
    """The pair that a file describes. Paths of checkpoints in it are relative to the working directory.

    Raises:
        ConfigError: if the file is missing or no YAML, or a field is unknown, missing or of the wrong type.
    """
    fields = _fields(path)
    if fields.keys() <= SHIPPED:
        return load_pair(str(fields.get("name")), fields.get("judge"))
    return read(Pair, fields, str(path))


def list_prices(path: str | Path) -> dict[str, Price]:
    """Prices by model from a pair's file, of which only ``models`` with ``name`` and ``price`` is read.

    Raises:
        ConfigError: as `read_pair`, or if no model has a price.
    """
    models = read(PriceList, _fields(path), str(path)).models
    prices = {model.name: model.price for model in models if model.price}
    if not prices:
        raise ConfigError(f"{path}: no model has a price; add `price: {{input: 0.1, output: 0.4}}` to each.")
    return prices


def _fields(path: str | Path) -> dict[str, Any]:
    if not Path(path).exists():
        raise ConfigError(f"pair: {str(path)!r} does not exist.")
    given = yaml_mapping(path, "pair", "the fields of a pair")
    return {name: value for name, value in given.items() if name not in ("_target_", "_convert_")}


def make_pair(**fields: Any) -> Pair:
    """A pair from its fields as plain data: what the scripts make of a file.

    Raises:
        ConfigError: if a field is unknown, missing or of the wrong type.
    """
    return read(Pair, fields, f"pair {fields.get('name')!r}")
