"""Files of measured speeds, and pairs that name one."""

from __future__ import annotations

from pathlib import Path

import pytest

from stepwise import Pair, load_pair
from stepwise.engine.cost import Seconds, Speed
from stepwise.errors import ConfigError
from stepwise.models.files import make_pair
from stepwise.models.speeds import load_speeds

GOOD = """
machine: a laptop
backend: scripted
quantisation: none
load: 1
calls: 90
error: 0.03
models:
  small: {prefill: 0.001, decode: 0.02, call: 0.05}
  large: {prefill: 0.004, decode: 0.07, call: 0.3}
"""


def pair_of(path: Path, *names: str) -> Pair:
    models = [{"name": name, "path": "nowhere"} for name in names]
    return make_pair(name="p", models=models, prompt="{question}", seconds=str(path))


def test_a_pair_counts_seconds_by_its_file(tmp_path: Path) -> None:
    path = tmp_path / "speeds.yaml"
    path.write_text(GOOD, encoding="utf-8")
    cost = pair_of(path, "small", "large").cost_model("seconds")
    assert cost == Seconds({"small": Speed(0.001, 0.02, 0.05), "large": Speed(0.004, 0.07, 0.3)})
    assert cost.unit == "s"


def test_a_pair_without_speeds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pair 'nano' names no file of measured seconds; add seconds: FILE"):
        load_pair("nano").cost_model("seconds")
    path = tmp_path / "speeds.yaml"
    path.write_text(GOOD, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"speeds.yaml has no speed of model 'huge'"):
        pair_of(path, "huge").cost_model("seconds")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("call: 0.3", "call: -0.3", "speed: call must be a number of seconds, at least 0, not -0.3"),
        ("call: 0.3", "call: .nan", "speed: call must be a number of seconds, at least 0, not nan"),
        ("call: 0.3", "call: soon", r"models\[...\].call must be float"),
        (", call: 0.3", "", "in models.large, `call` is missing"),
        ("load: 1", "load: 1\nlaod: 2", "there is no field 'laod'"),
        ("machine: a laptop", "", "at the top, `machine` is missing"),
        (GOOD, "just text", "must hold measured speeds, not 'just text'"),
        (GOOD, "a: [", "is no YAML"),
        (GOOD[GOOD.index("models") :], "models: {}", "models must name at least one model"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    path = tmp_path / "speeds.yaml"
    path.write_text(GOOD.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError, match=sentence) as refused:
        load_speeds(path)
    assert "\n" not in str(refused.value) and str(refused.value).startswith("seconds: ")


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="seconds: /no/such.yaml could not be read"):
        load_speeds("/no/such.yaml")
