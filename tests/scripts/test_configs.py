"""Every configuration composes, and what it names can be built."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from scripts import evaluate, train
from stepwise import load_pair
from stepwise.types import Look, Router

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
ROUTERS = sorted(file.stem for file in (CONFIGS / "router").glob("*.yaml"))


@pytest.mark.parametrize(
    "name", ["train_nano", "train", "calibrate", "evaluate", "oracle", "train_prm", "check_promises"]
)
def test_programs_compose(name: str) -> None:
    with initialize_config_dir(str(CONFIGS), version_base=None):
        cfg = compose(name)
    assert OmegaConf.to_container(cfg, resolve=True)


@pytest.mark.parametrize("group", ["pair", "dataset"])
def test_pairs_and_datasets_can_be_built(group: str) -> None:
    for file in (CONFIGS / group).glob("*.yaml"):
        made = OmegaConf.load(file)
        built = instantiate(made, limit=3) if group == "dataset" else instantiate(made)
        assert built


@pytest.mark.parametrize("name", ROUTERS)
def test_routers_bear_the_name_of_their_file(name: str) -> None:
    group: Any = OmegaConf.load(CONFIGS / "router" / f"{name}.yaml")
    make = instantiate(group.router)
    router: Router = make(**{group.knob: group["values"][0]}) if "knob" in group else make()
    assert router.name == name
    assert router.look in get_args(Look)


def test_an_evaluation_has_every_router_at_every_setting() -> None:
    with initialize_config_dir(str(CONFIGS), version_base=None):
        cfg = compose("evaluate")
    field = evaluate.contenders(cfg, load_pair("nano"))
    assert len({contender.key for contender in field}) == len(field)
    names = {contender.router.name for contender in field}
    assert names == set(ROUTERS) - {"prm"}  # the pair ships without a judge; +router@routers.prm=prm adds it


def test_prices_may_be_one_number_or_a_range() -> None:
    assert train._price(0.3) == 0.3 and train._price([0.1, 2]) == (0.1, 2.0)
