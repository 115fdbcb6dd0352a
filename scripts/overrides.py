"""Values given on the command line, checked against the kind of value that they replace."""

from __future__ import annotations

from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, ListConfig, OmegaConf

from stepwise.errors import ConfigError

KINDS: dict[str, tuple[type, ...]] = {
    "true or false": (bool,),
    "a number": (int, float),
    "text": (str,),
    "a list": (ListConfig,),
    "a mapping": (DictConfig,),
}


def check_overrides(cfg: DictConfig) -> None:
    """Call it from a running Hydra program with its configuration.

    Raises:
        ConfigError: if a value is of another kind than the one that the configuration has in its place; null
            goes with every kind.
    """
    given = OverridesParser.create().parse_overrides(list(HydraConfig.get().overrides.task))
    hydra = GlobalHydra.instance().hydra
    groups = [one for one in given if hydra and hydra.config_loader.get_group_options(one.key_or_group)]
    values = [one for one in given if one not in groups and not one.is_add() and not one.is_delete()]
    if not values:
        return
    standard = compose(HydraConfig.get().job.config_name, overrides=[str(one.input_line) for one in groups])
    for key in (one.key_or_group for one in values):
        value = OmegaConf.select(cfg, key)
        kind, found = _kind(OmegaConf.select(standard, key)), _kind(value)
        # What has a name may be described instead, or be several: embedder=[tfidf,FOLDER].
        fits = found in (None, kind) or (kind == "text" and found in ("a list", "a mapping"))
        if kind and not fits:
            raise ConfigError(f"{key} must be {kind}, not {value!r}.")


def _kind(value: Any) -> str | None:
    return next((kind for kind, types in KINDS.items() if isinstance(value, types)), None)
