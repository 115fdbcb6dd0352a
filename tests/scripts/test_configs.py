"""Every configuration composes, and what it names can be built."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import shutil
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

import scripts
from scripts import evaluate, train
from scripts.settings import RECORDED
from stepwise import Model, Pair, load_dataset, load_pair, load_router
from stepwise.backends.http.completions import Options as CompletionsOptions
from stepwise.cli.bench import COPIES
from stepwise.routers import PolicyRouter
from stepwise.scope import AnchorSet, Fingerprint, FingerprintStore, Price
from stepwise.types import Look, Router

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
MODULES = sorted(m.name for m in pkgutil.walk_packages(scripts.__path__, "scripts."))
ROUTERS = sorted(file.stem for file in (CONFIGS / "router").glob("*.yaml"))


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    """Every program has made its settings known."""
    for name in MODULES:
        importlib.import_module(name)


@pytest.mark.parametrize("name", sorted(file.stem for file in CONFIGS.glob("*.yaml") if file.stem != "base"))
def test_programs_compose(name: str) -> None:
    """Against the types of their settings, with nothing left to be filled in."""
    with initialize_config_dir(str(CONFIGS), version_base=None):
        cfg = compose(name)
    assert is_dataclass(OmegaConf.get_type(cfg)) and not OmegaConf.missing_keys(cfg)
    assert OmegaConf.to_container(cfg, resolve=True)
    module = "train_nano" if name == "train_nano_qwen2" else name
    assert f"scripts.{module}" in MODULES, "a configuration bears the name of its program"


@pytest.mark.parametrize("name", sorted(file.stem for file in (CONFIGS / "experiment").glob("*.yaml")))
def test_experiments_compose(name: str) -> None:
    program = "recorded" if name in ("bon_cascade", "processbench") else "evaluate"
    with initialize_config_dir(str(CONFIGS), version_base=None):
        cfg = compose(program, overrides=[f"experiment={name}"])
    assert OmegaConf.to_container(cfg, resolve=True)
    assert program == "recorded" or set(cfg.compare) <= set(cfg.routers)


@pytest.mark.parametrize("base", sorted(file.stem for file in (CONFIGS / "scope" / "base").glob("*.yaml")))
def test_estimators_have_a_base(base: str) -> None:
    with initialize_config_dir(str(CONFIGS), version_base=None):
        cfg = compose("train_scope", overrides=[f"scope/base@base={base}", "embedder=[tfidf,FOLDER]"])
    assert cfg.base.model and instantiate(cfg.teacher) and list(cfg.embedder) == ["tfidf", "FOLDER"]


@pytest.mark.parametrize("name", sorted(file.stem for file in (CONFIGS / "pair").glob("*.yaml")))
def test_pairs_can_be_built(name: str) -> None:
    pair = instantiate(OmegaConf.load(CONFIGS / "pair" / f"{name}.yaml"))
    assert isinstance(pair, Pair) and all(isinstance(model, Model) for model in pair.everyone)
    assert all(model.size for model in pair.models if isinstance(model.options, CompletionsOptions))


@pytest.mark.parametrize("name", sorted(file.stem for file in (CONFIGS / "dataset").glob("*.yaml")))
def test_datasets_can_be_built(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From local copies in the shape that their publishers gave them."""
    shapes: dict[str, dict[str, Any]] = {
        "aime24": {"problem": "q", "answer": "7"},
        "aime25": {"problem": "q", "answer": "7"},
        "olympiadbench": {"question": "q", "final_answer": ["7"], "subfield": "Algebra"},
        "omni_math_rule": {
            "problem": "q",
            "answer": "7",
            "domain": ["Mathematics -> Algebra"],
            "difficulty": 5.0,
        },
    }
    shutil.copytree(CONFIGS.parent / "tests" / "data", tmp_path / "benchmarks")
    for file, row in shapes.items():
        (tmp_path / "benchmarks" / f"{file}.jsonl").write_text(json.dumps(row) + "\n")
    monkeypatch.setenv("STEPWISE_DATA", str(tmp_path))
    for split in ("test", "calibration"):
        problems = instantiate(OmegaConf.load(CONFIGS / "dataset" / f"{name}.yaml"), limit=3, split=split)
        assert problems and all(problem.answer for problem in problems)


def test_labels_filter_a_dataset_as_the_documentation_says() -> None:
    with initialize_config_dir(str(CONFIGS), version_base=None):
        cfg = compose("evaluate", overrides=["dataset=math500", "dataset.where={level: [4, 5]}"])
    assert cfg.dataset.where == {"level": [4, 5]}


@pytest.mark.parametrize("name", ["bon_cascade", "processbench"])
def test_studies_compose(name: str) -> None:
    with initialize_config_dir(str(CONFIGS), version_base=None):
        cfg = compose("recorded", overrides=[f"experiment={name}"])
    assert callable(instantiate(cfg.study)) and cfg.output == f"outputs/{name}"


def test_a_grader_is_a_pair_of_one_model() -> None:
    with initialize_config_dir(str(CONFIGS), version_base=None):
        cfg = compose("evaluate", overrides=["+pair@grader=grader"])
    assert len(instantiate(cfg.grader).models) == 1


@pytest.fixture
def fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with the files that fitted routers are loaded from."""
    baselines, trim = tmp_path / "outputs" / "baselines", tmp_path / "outputs" / "trim" / "0.0002"
    for folder in (baselines, trim):
        folder.mkdir(parents=True)
    mixture = {"weights": [0.5, 0.5], "means": [-1.0, -0.1], "deviations": [0.5, 0.1]}
    (baselines / "steer.json").write_text(json.dumps(mixture))
    (baselines / "query.json").write_text(json.dumps({"bias": 0.0, "weights": {}}))
    (trim / "trim.zip").write_bytes(b"weights")
    anchors = AnchorSet(load_dataset("nano", limit=4))
    anchors.save(tmp_path / "outputs" / "fingerprint" / "anchors.json")
    outcomes: dict[str, Any] = {
        "anchor_ids": list(anchors.place),
        "correct": [1, 0, 1, 1],
        "tokens": [90, 80, 99, 70],
    }
    store = FingerprintStore(tmp_path / "outputs" / "fingerprints.db")
    store.add(*(Fingerprint(model=model, **outcomes, price=Price(1.0, 1.0)) for model in ("small", "large")))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("fitted")
@pytest.mark.parametrize("name", ROUTERS)
def test_routers_bear_the_name_of_their_file(name: str) -> None:
    group: Any = OmegaConf.load(CONFIGS / "router" / f"{name}.yaml")
    make = instantiate(group.router)
    router: Router = make(**{group.knob: (group["values"] or [1.0])[0]}) if "knob" in group else make()
    assert router.name == name
    assert router.look in get_args(Look)


def test_an_evaluation_has_every_router_at_every_setting() -> None:
    with initialize_config_dir(str(CONFIGS), version_base=None):
        cfg = compose("evaluate")
    field = evaluate.contenders(cfg, load_pair("nano"))
    assert len({contender.key for contender in field}) == len(field)
    names = {contender.router.name for contender in field}
    needs_fitting = {"prm", "specreason", "trim_agg", "steer", "query", "scope", "seeded"}
    needs_a_reader = {"verified", "verify_doubtful"}  # which not every backend is
    assert names == set(ROUTERS) - needs_fitting - needs_a_reader


def test_an_evaluation_compares_the_policy_that_is_named(tmp_path: Path) -> None:
    artifact = load_router("nano-ppo", threshold=1.0).artifact
    replace(artifact, card={"mine": True}).save(tmp_path)
    with initialize_config_dir(str(CONFIGS), version_base=None):
        cfg = compose("evaluate", overrides=[f"artifact={tmp_path}"])
    field = evaluate.contenders(cfg, load_pair("nano"))
    policies = [c.router for c in field if isinstance(c.router, PolicyRouter)]
    assert policies and all(policy.artifact.card == {"mine": True} for policy in policies)


def test_the_experiment_adds_the_fitted_routers_and_the_other_seeds() -> None:
    with initialize_config_dir(str(CONFIGS), version_base=None):
        cfg = compose("evaluate", overrides=["experiment=nano_frontier"])
    left_out = {"scope", "seeded", "verified", "verify_doubtful"}
    assert set(cfg.routers) == {*ROUTERS, "ppo_seed1", "ppo_seed2"} - left_out
    assert cfg.routers.ppo_seed1.router.name.endswith("train_seed1/policy")
    assert cfg.routers.ppo.router.name == "nano-ppo"
    assert set(cfg.compare) <= set(cfg.routers) and cfg.pair.judge


def test_cost_weights_may_be_one_number_or_a_range() -> None:
    assert train._cost_weight(0.3) == 0.3 and train._cost_weight([0.1, 2]) == (0.1, 2.0)


def test_a_policy_may_be_trained_with_estimates() -> None:
    with initialize_config_dir(str(CONFIGS), version_base=None):
        cfg = compose("train", overrides=["scope=fingerprints"])
    assert cfg.scope.fingerprints == compose_plain("fingerprint").fingerprints
    assert compose_plain("train").get("scope") is None


def compose_plain(name: str) -> Any:
    with initialize_config_dir(str(CONFIGS), version_base=None):
        return compose(name)


@pytest.mark.parametrize("place", ["", "benchmarks"])
@pytest.mark.parametrize("name", ["gsm8k", "math"])
def test_anchors_and_datasets_find_the_same_local_copies(
    name: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(CONFIGS.parent / "tests" / "data", tmp_path / place, dirs_exist_ok=True)
    monkeypatch.setenv("STEPWISE_DATA", str(tmp_path))
    with initialize_config_dir(str(CONFIGS), version_base=None):
        cfg = compose("fingerprint", overrides=[f"anchors={name}", "anchors.recipe.n=4"])
    assert len(instantiate(cfg.anchors.recipe)) == 4
    dataset = OmegaConf.load(CONFIGS / "dataset" / f"{name}.yaml")
    assert instantiate(dataset, split="train", limit=3)


def test_local_copies_are_looked_for_in_one_place() -> None:
    """Where STEPWISE_DATA is not set: the same folder in every configuration and on the command line."""
    found = [re.findall(r"\$\{oc\.env:STEPWISE_DATA.*?\}", f.read_text()) for f in CONFIGS.rglob("*.yaml")]
    named = {name for names in found for name in names}
    assert named == {RECORDED} == {f"${{oc.env:STEPWISE_DATA,{COPIES}}}"}


@pytest.mark.parametrize("name", sorted(file.stem for file in (CONFIGS / "anchors").glob("*.yaml")))
def test_anchors_have_a_recipe(name: str) -> None:
    with initialize_config_dir(str(CONFIGS), version_base=None):
        cfg = compose("fingerprint", overrides=[f"anchors={name}"])
    recipe: Any = OmegaConf.to_container(cfg.anchors.recipe, resolve=True)
    assert recipe["provenance"]["dataset"] and cfg.anchors.path is None
