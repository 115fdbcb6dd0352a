"""Libraries that only some users need: which extra brings them, and the sentence that names it."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from stepwise.errors import ConfigError

DISTRIBUTION = "stepwise-routing"
"""The name to install; the distribution `stepwise` is another project's."""
MODULES: Mapping[str, tuple[str, ...]] = {
    "local": ("torch", "transformers"),
    "report": ("matplotlib", "jinja2"),
    "gateway": ("fastapi", "uvicorn", "prometheus_client"),
    "cluster": ("ray", "redis"),
    "hub": ("huggingface_hub",),
    "train": ("gymnasium", "stable_baselines3", "hydra"),
}
"""What an extra of ``pyproject.toml`` brings, where a command has to look before it starts."""


def install(extra: str) -> str:
    """The command that installs an extra. From a checkout: `stepwise` on PyPI is another project."""
    return f"pip install -e '.[{extra}]'"


def missing_extra(feature: str, extra: str) -> ConfigError:
    """The error for a feature whose libraries are not installed."""
    return ConfigError(f"{feature} needs the extra {extra!r}; in a checkout, run {install(extra)}.")


def require(feature: str, extra: str, *modules: str) -> None:
    """Look for an extra's modules, without importing them, before any work is done.

    Args:
        modules: by default all of the extra's.

    Raises:
        ConfigError: naming the extra, if one is missing.
    """
    if any(find_spec(module) is None for module in modules or MODULES[extra]):
        raise missing_extra(feature, extra)
