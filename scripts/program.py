"""What the programs have in common: Hydra, one sentence for bad input, and runs that can be repeated."""

from __future__ import annotations

import functools
import gc
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import hydra
import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.resolvers import oc
from rich.console import Console

import envs
import policies
from scripts.refusing import check_groups, refusing
from stepwise.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
console = Console()
typed: list[str] = []
"""The arguments of the program as they were typed, for the commands that it recommends."""


def program(name: str, schema: type) -> Callable[[Callable[[DictConfig], Any]], Callable[[], None]]:
    """Make a function a Hydra program over ``configs/{name}.yaml``.

    The schema is a dataclass with the types and defaults of the settings; the configuration has the name of
    its class in its defaults list. Of what the function returns Hydra's sweepers look for the best. Bad
    input, on the command line or met later, ends the program with one sentence and exit code 2, not with a
    traceback.
    """
    ConfigStore.instance().store(schema.__name__, schema)

    def decorate(main: Callable[[DictConfig], Any]) -> Callable[[], None]:
        @functools.wraps(main)
        def job(cfg: DictConfig) -> Any:
            collect_rarely()
            with refusing(name):  # here too: an error that reaches Hydra gets a line of its own
                return main(cfg)

        composed = hydra.main(version_base=None, config_path=str(CONFIGS), config_name=name)(job)

        @functools.wraps(main)
        def run() -> None:
            # Lets errors through; else Hydra prints them in its own way and exits with 1.
            os.environ["HYDRA_FULL_ERROR"] = "1"
            typed[:] = sys.argv[1:]
            with refusing(name):
                sys.argv[1:] = repeating(with_defaults(with_files(sys.argv[1:], schema), name))
                check_groups(sys.argv[1:], CONFIGS)
                _check_packages()
                composed()

        return run

    return decorate


def with_files(arguments: Sequence[str], schema: type) -> list[str]:
    """The arguments of a program, where files and folders stand for what Hydra looks for among its groups.

    ``pair=FILE.yaml`` is a file that lies anywhere, as ``--pair`` of the command line is; one in
    ``configs/pair`` stays Hydra's to find. ``dataset=FILE.jsonl`` likewise. ``policy=FOLDER`` is a policy's
    folder where a program has one; ``--yes`` is a setting like others.
    """
    artifact = any(field.name == "artifact" for field in fields(schema))
    return [override for argument in arguments for override in _with_file(argument, artifact)]


def _with_file(argument: str, artifact: bool) -> list[str]:
    key, _, path = argument.partition("=")
    if argument == "--yes":
        return ["yes=true"]
    if key == "policy" and artifact:
        return [f"artifact={json.dumps(path)}"]
    ours = not Path(path).is_absolute() and (CONFIGS / "pair" / path).is_file()
    if key == "pair" and Path(path).suffix in (".yaml", ".yml") and not ours:
        return ["pair=nano", f"pair.name={json.dumps(path)}"]  # which loads a pair by its name or path
    if key == "dataset" and path.removesuffix(".gz").endswith(".jsonl"):
        return ["dataset=nano", f"dataset.name={json.dumps(path)}"]  # likewise
    return [argument]


def with_defaults(arguments: Sequence[str], name: str) -> list[str]:
    """The arguments of a program, where ``GROUP=null`` leaves open what its configuration leaves open.

    Hydra has no null for a group, and calls this its deletion from the defaults list.
    """
    defaults = _plain(CONFIGS / f"{name}.yaml")["defaults"]
    groups = {group: file for entry in defaults if isinstance(entry, dict) for group, file in entry.items()}
    unset = {f"{group}=null" for group, file in groups.items() if file is None}
    return [f"~{argument.partition('=')[0]}" if argument in unset else argument for argument in arguments]


def repeating(arguments: Sequence[str]) -> list[str]:
    """The arguments of a program; where ``--config-path`` names a run's folder, those that repeat the run."""
    for place, argument in enumerate(arguments[:-1]):
        folder = Path(arguments[place + 1]).resolve()
        if argument in ("--config-path", "-cp") and (folder / "config.yaml").is_file():
            check_targets(folder)
            repeat = ["--config-path", str(folder), "--config-name", "config", "--config-dir", str(CONFIGS)]
            return [*arguments[:place], *repeat, *arguments[place + 2 :]]
    return list(arguments)


def check_targets(folder: Path) -> None:
    """Refuse a run's folder, which may be a stranger's, whose configuration names code that ours does not.

    Raises:
        ConfigError: if it does, or a file is no configuration.
    """
    known = {target for path in CONFIGS.rglob("*.yaml") for target in _targets(_plain(path))}
    for path in sorted(folder.rglob("*.yaml")):
        for target in _targets(_plain(path)):
            if target not in known:
                raise ConfigError(
                    f"config-path: {path} names {target!r}, which no file of {CONFIGS} does; it could be any "
                    "code, so it is not run. Write it into a configuration of your own if you trust it."
                )


def _plain(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(
            f"config-path: {path} is no configuration: {str(error).splitlines()[0]}."
        ) from error


def _targets(value: Any) -> Iterator[Any]:
    """All that Hydra would look up and call."""
    if isinstance(value, dict):
        yield from (inner for name, inner in value.items() if name == "_target_")
        yield from (target for inner in value.values() for target in _targets(inner))
    elif isinstance(value, list):
        yield from (target for inner in value for target in _targets(inner))


def save_config(cfg: DictConfig, output: Path) -> None:
    """Save the resolved configuration in a run's folder, in a form that ``--config-path`` accepts. What it
    takes from the environment stays the name of a variable."""
    schema: Any = OmegaConf.get_type(cfg)
    frame = {"defaults": ["base", schema.__name__, "_self_"]}
    with _environment_by_name():
        resolved = OmegaConf.create(OmegaConf.to_container(cfg, resolve=True))
    OmegaConf.save(OmegaConf.merge(frame, resolved), output / "config.yaml")


@contextmanager
def _environment_by_name() -> Iterator[None]:
    """Let ``${oc.env:NAME}`` be itself."""

    def itself(*parts: str) -> str:
        return f"${{oc.env:{','.join(map(str, parts))}}}"

    OmegaConf.register_new_resolver("oc.env", itself, replace=True)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


def collect_rarely() -> None:
    """Chains are many small values that live long and have no cycles: with Python's default the collector
    walks through them again and again, for a quarter of an environment's time."""
    gc.set_threshold(20_000, 20, 50)


def _check_packages() -> None:
    for package in (envs, policies):
        if Path(str(package.__file__)).resolve().parent.parent != ROOT:
            raise ConfigError(
                f"the package {package.__name__!r} was imported from {package.__file__}, another project's; "
                f"run the scripts from the checkout at {ROOT}."
            )
