"""The programs' frame: importing it changes nothing, and a run's folder repeats the run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from scripts import evaluate, train
from scripts.program import CONFIGS, repeating, save_config, with_defaults, with_files
from scripts.refusing import check_groups
from stepwise.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]

IMPORT_ALL = """
import importlib, os, pkgutil, sys
before, folder = list(sys.argv), sorted(os.listdir())
import scripts
for module in pkgutil.walk_packages(scripts.__path__, "scripts."):
    importlib.import_module(module.name)
assert sys.argv == before, sys.argv
assert sorted(os.listdir()) == folder, os.listdir()
print("imported")
"""


def test_importing_the_scripts_has_no_side_effects(tmp_path: Path) -> None:
    """Under a command line that is another program's, and would repeat a run if it were a script's."""
    (tmp_path / "config.yaml").write_text("n: 3\n")
    foreign = [sys.executable, "-c", IMPORT_ALL, "--config-path", str(tmp_path), "n=3"]
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    done = subprocess.run(foreign, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout == "imported\n", done.stderr


@pytest.mark.parametrize("flag", ["--config-path", "-cp"])
def test_a_folder_with_a_configuration_is_repeated(flag: str, tmp_path: Path) -> None:
    arguments = ["-m", flag, str(tmp_path), "n=3"]
    assert repeating(arguments) == arguments, "a folder of configurations is Hydra's"
    (tmp_path / "config.yaml").touch()
    repeat = ["--config-path", str(tmp_path), "--config-name", "config", "--config-dir", str(CONFIGS)]
    assert repeating(arguments) == ["-m", *repeat, "n=3"]
    assert repeating(["n=3", flag]) == ["n=3", flag]


def test_a_saved_configuration_is_the_same_and_keeps_its_types(tmp_path: Path) -> None:
    with initialize_config_dir(str(CONFIGS), version_base=None):
        cfg = compose("evaluate", overrides=["n=7", "experiment=estimates", "~routers.entropy"])
    save_config(cfg, tmp_path)
    search = f"hydra.searchpath=[file://{CONFIGS}]"
    with initialize_config_dir(str(tmp_path), version_base=None):
        again = compose("config", overrides=[search])
    assert again == cfg and again.n == 7 and "entropy" not in again.routers
    with initialize_config_dir(str(tmp_path), version_base=None), pytest.raises(Exception, match="n=many"):
        compose("config", overrides=[search, "n=many"])
    assert evaluate.Evaluate.__name__ in (tmp_path / "config.yaml").read_text()


def test_another_projects_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "__init__.py").touch()
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": ""}
    command = [sys.executable, "-m", "scripts.start_servers"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "the package 'envs' was imported from" in done.stderr


def test_pairs_and_data_sets_may_be_files_anywhere_and_a_policy_a_folder() -> None:
    arguments = [
        "-m",
        "pair=mine.yaml",
        "dataset=my problems.jsonl",
        "n=3",
        "pair=qwen3.yaml",
        "pair=qwen3",
        "policy=../a policy",
        "--yes",
    ]
    shown = ["-m", "pair=nano", 'pair.name="mine.yaml"', "dataset=nano", 'dataset.name="my problems.jsonl"']
    overrides = with_files(arguments, evaluate.Evaluate)
    assert overrides == [*shown, "n=3", "pair=qwen3.yaml", "pair=qwen3", 'artifact="../a policy"', "yes=true"]
    assert with_files(["policy=ppo"], train.Train) == ["policy=ppo"]
    with initialize_config_dir(str(CONFIGS), version_base=None):
        cfg = compose(
            "evaluate", overrides=[o for o in overrides if not o.startswith(("pair=q", "-", "yes"))]
        )
    assert (cfg.pair.name, cfg.artifact) == ("mine.yaml", "../a policy")
    assert cfg.dataset.name == "my problems.jsonl"


@pytest.mark.parametrize("target", ["os.system", "scripts.program.os.system", "${oc.env:HOME}", 7])
@pytest.mark.parametrize("place", ["config.yaml", "deep/group/other.yaml"])
def test_a_strangers_folder_runs_no_code(target: object, place: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("n: 3\n")
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text(f"a: [{{b: {{_target_: '{target}', command: touch ran}}}}]\n")
    with pytest.raises(ConfigError, match=f"config-path: .*{place} names"):
        repeating(["--config-path", str(tmp_path)])
    command = [sys.executable, "-m", "scripts.evaluate", "--config-path", str(tmp_path)]
    if (target, place) == ("os.system", "config.yaml"):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 2 and "it could be any code, so it is not run" in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_folder_that_is_no_configuration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("a: !!python/object/apply:os.system [touch ran]\n")
    with pytest.raises(ConfigError, match="is no configuration"):
        repeating(["--config-path", str(tmp_path)])


def test_what_comes_from_the_environment_is_saved_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPWISE_DATA", "/a/private/place")
    with initialize_config_dir(str(CONFIGS), version_base=None):
        cfg = compose("evaluate", overrides=["dataset=gsm8k", "output=${oc.env:STEPWISE_DATA}/out"])
    save_config(cfg, tmp_path)
    saved = (tmp_path / "config.yaml").read_text()
    assert "/a/private/place" not in saved and "${oc.env:STEPWISE_DATA}/out" in saved
    assert cfg.output == "/a/private/place/out"
    assert repeating(["--config-path", str(tmp_path)])[1] == str(tmp_path)


MINE = "{{router: {{_target_: {target}, _partial_: true}}, knob: {knob}, values: [8]}}"


@pytest.mark.parametrize(
    ("target", "knob", "sentence"),
    [
        ("nowhere.Router", "k", r"_target_ cannot be imported: No module named 'nowhere'; .* in PYTHONPATH"),
        ("stepwise.routers.LargeFrist", "k", r"_target_ cannot be imported: .* mean 'LargeFirst'\?$"),
        ("stepwise.routers.LargeFirst", "kay", r"cannot be made with kay=8: .*unexpected keyword .*'kay'"),
    ],
)
def test_a_router_that_cannot_be_made_is_a_sentence_with_its_file(
    target: str, knob: str, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / "router").mkdir()
    (tmp_path / "router" / "mine.yaml").write_text(MINE.format(target=target, knob=knob))
    command = [sys.executable, "-m", "scripts.stepbench", "--config-dir", str(tmp_path), "router=mine"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert re.search(rf"router.router \(configs/router/mine.yaml\): {sentence}", done.stderr.strip()), (
        done.stderr
    )


def test_a_number_or_null_in_the_place_of_a_groups_file_is_a_sentence() -> None:
    for argument in ("anchors=20", "+anchors=2.5", "scope/base=true", "pair=null", "router@routers.x=NULL"):
        with pytest.raises(ConfigError, match=r"must be one of .*, or .*\.SETTING=VALUE, not"):
            check_groups([argument], CONFIGS)
    check_groups(["n=20", "anchors=gsm8k", "~anchors", "anchors.path=7", "study=null", "--multirun"], CONFIGS)


def test_null_is_the_default_of_a_group_that_is_left_open() -> None:
    arguments = ["scope=null", "experiment=estimates", "pair=null", "oracle=null", "n=3"]
    overrides = with_defaults(arguments, "evaluate")
    assert overrides == ["~scope", "experiment=estimates", "pair=null", "oracle=null", "n=3"]
    with initialize_config_dir(str(CONFIGS), version_base=None):
        cfg = compose("evaluate", overrides=[o for o in overrides if o != "pair=null"])
    assert cfg.scope is None and cfg.n == 3


@pytest.mark.parametrize(("argument", "status"), [("router=null", 0), ("router@routers.random=null", 2)])
def test_null_for_a_group_ends_in_no_traceback(argument: str, status: int) -> None:
    command = [sys.executable, "-m", "scripts.stepbench", argument, "--cfg", "job"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == status and done.stderr.count("\n") == (status == 2), done.stderr
    assert status == 0 or "must be one of confidence," in done.stderr
