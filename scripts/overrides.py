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
    chosen = [str(one.input_line) for one in groups]
    standard = compose(HydraConfig.get().job.config_name, overrides=chosen)
    for one in given:
        if one in groups or one.is_add() or one.is_delete():
            continue
        kind, found = (_kind(OmegaConf.select(config, one.key_or_group)) for config in (standard, cfg))
        # What has a name may be described instead, or be several: embedder=[tfidf,FOLDER].
        fits = found in (None, kind) or (kind == "text" and found in ("a list", "a mapping"))
        if kind and not fits:
            value = OmegaConf.select(cfg, one.key_or_group)
            raise ConfigError(f"{one.key_or_group} must be {kind}, not {value!r}.")


def _kind(value: Any) -> str | None:
    return next((kind for kind, types in KINDS.items() if isinstance(value, types)), None)
