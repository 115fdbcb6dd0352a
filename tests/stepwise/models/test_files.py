"""Pairs from files: a user's own models on the command line, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hydra.utils import instantiate
from msgspec import structs
from omegaconf import OmegaConf

from stepwise import Model, Pair, load_dataset, load_pair
from stepwise.backends.http.completions import Options as VllmServer
from stepwise.backends.http.resilient import Patience
from stepwise.backends.options import known_backends
from stepwise.cli.main import main
from stepwise.engine.cost import Price
from stepwise.errors import ConfigError
from stepwise.models.files import list_prices
from stepwise.models.overrides import with_options

PAIRS = sorted(Path("configs/pair").glob("*.yaml"))
QUESTION = load_dataset("nano", limit=1)[0].question


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """nano's models as somebody's own."""
    small, _, large = load_pair("nano").models
    models = [{"name": "tiny", "path": small.path}, {"name": "big", "path": large.path}]
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"name": "mine", "prompt": "{question}\n", "models": models}))
    return file


@pytest.mark.parametrize("path", PAIRS, ids=lambda path: path.stem)
def test_a_file_is_the_pair_that_the_scripts_make_of_it(path: Path) -> None:
    assert load_pair(path) == instantiate(OmegaConf.load(path))


def test_a_pair_of_ones_own_is_solved_with_by_rule(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["solve", QUESTION, "--pair", str(mine), "--router", "confidence", "--threshold", "0.01"]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert "tiny" in shown and "big" in shown and "score" in shown and "answer:" in shown


@pytest.mark.parametrize(
    "options, message",
    [
        ([], "the policy was trained on pair 'nano'"),
        (["--router", "confidence"], "router 'confidence' is not calibrated; pass --threshold"),
        (["--router", "entropy", "--budget", "0.3"], "pass --threshold"),
        (["--router", "middle"], "router must be one of nano-ppo"),
    ],
)
def test_a_router_that_cannot_route_it_is_refused(
    mine: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["solve", "q", "--pair", str(mine), *options]) == 2
    shown = capsys.readouterr().err
    assert message in shown and shown.count("\n") == 1


CHAT = {"name": "chat", "base_url": "http://x"}
GOOD = {"name": "p", "prompt": "{question}", "models": [{"name": "a", "path": "x"}]}


@pytest.mark.parametrize(
    "given, message",
    [
        ("models: [", "is no YAML"),
        ("just text", "must hold the fields of a pair, not 'just text'"),
        ({**GOOD, "promt": "x"}, "there is no field 'promt', only name, models, prompt"),
        ({"name": "p", "prompt": "{question}"}, "at the top, `models` is missing"),
        (
            {"models": [{"name": "a", "path": "x", "price": {}}, {"path": "y"}]},
            ": at the top, `name` and `prompt` are missing; in models[0].price, `input` and `output` are "
            "missing; in models[1], `name` is missing.",
        ),
        ({**GOOD, "max_steps": "many"}, "max_steps must be int, not 'many'"),
        ({**GOOD, "max_steps": True}, "max_steps must be int, not True"),
        ({**GOOD, "models": [{"path": "x"}]}, "in models[0], `name` is missing"),
        ({**GOOD, "models": ["small"]}, "models[0] must be a mapping, not 'small'"),
        (
            {**GOOD, "models": [{"name": "a", "path": "x", "stop": "END"}]},
            "stop must be a list, not 'END'",
        ),
        (
            {**GOOD, "models": [{"name": "a", "path": "x", "price": {"input": 1}}]},
            "in models[0].price, `output` is missing",
        ),
        ({**GOOD, "models": [{"name": "a"}]}, "it needs a path, or a backend on a server"),
        ({**GOOD, "models": [{"name": "a", "path": "x", "stop": [""]}]}, "stop must not contain an empty"),
        ({**GOOD, "models": [{"name": "", "path": "x"}]}, "name must not be empty"),
        (
            {
                **GOOD,
                "models": [
                    {
                        "name": "a",
                        "path": "x",
                        "backend": {**CHAT, "context": 0},
                    }
                ],
            },
            "context must be at least 2, not 0",
        ),
        (
            {**GOOD, "models": [{"name": "a", "path": "x", "backend": "tgi"}]},
            f"name must be one of {', '.join(known_backends())}, not 'tgi'",
        ),
        (
            {**GOOD, "models": [{"name": "a", "path": "x", "backend": {"name": "vllm", "dtipe": "x"}}]},
            "model 'a': backend vllm: there is no field 'dtipe', only dtype, context, memory_gib",
        ),
        (
            {**GOOD, "models": [{"name": "a", "path": "x", "backend": {"name": "vllm", "memory_gib": "8"}}]},
            "memory_gib must be float, not '8'",
        ),
        (
            {
                **GOOD,
                "models": [
                    {
                        "name": "a",
                        "backend": {**CHAT, "patience": {"deadline_s": -1}},
                    }
                ],
            },
            "deadline_s must be more than 0, not -1",
        ),
        ({**GOOD, "models": [{"_target_": "os.system", "name": "a", "path": "x"}]}, "no field '_target_'"),
        (
            {**GOOD, "models": [{"name": "a", "path": "x", "price": {"input": float("nan"), "output": 1}}]},
            "input must be a number of dollars",
        ),
        ({**GOOD, "prompt": "no place"}, "prompt must contain {question}"),
    ],
)
def test_a_bad_file_is_refused_by_field(given: object, message: str, tmp_path: Path) -> None:
    file = tmp_path / "pair.yml"
    file.write_text(given if isinstance(given, str) else yaml.safe_dump(given))
    with pytest.raises(ConfigError) as caught:
        load_pair(str(file))
    assert message in str(caught.value)


def test_a_missing_file_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"pair: 'no/such\.yaml' does not exist"):
        load_pair("no/such.yaml")


def test_a_price_list_needs_names_and_prices_only(tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text("models:\n- {name: a, price: {input: 1, output: 2}}\n- {name: b, backend: any}\n")
    assert list_prices(file) == {"a": Price(1.0, 2.0)}
    file.write_text("models:\n- {name: a, price: {input: 1}}\n")
    with pytest.raises(ConfigError, match=r"in models\[0\]\.price, `output` is missing"):
        list_prices(file)
    file.write_text("models:\n- {name: a}\n")
    with pytest.raises(ConfigError, match="no model has a price; add `price: {input: "):
        list_prices(file)


def test_options_of_backends_can_be_set_from_a_command_line() -> None:
    server = {"name": "vllm-server", "base_url": "http://localhost:1/v1"}
    pair = Pair("p", (Model("a", "x"), Model("b", "y", backend=server)), "{question}")
    given = ["dtype=bfloat16", "memory_gib=8", "b.patience={deadline_s: 5, failures: 2}"]
    changed, default = with_options(pair, "vllm", given)
    assert default == {"name": "vllm", "dtype": "bfloat16", "memory_gib": 8}
    assert changed.models[1].options == VllmServer(
        base_url="http://localhost:1/v1", patience=Patience(deadline_s=5, failures=2)
    )
    for wrong, message in (
        ("dtype", "must be OPTION=VALUE or MODEL.OPTION=VALUE with a model of the pair"),
        ("c.dtype=x", "must be OPTION=VALUE or MODEL.OPTION=VALUE with a model of the pair"),
        ("dtipe=x", "there is no field 'dtipe'"),
        ("a.dtype=x", "model 'a' names no backend whose options could be set"),
    ):
        with pytest.raises(ConfigError, match=message):
            with_options(pair, "vllm", [wrong])
    every = structs.replace(pair, models=pair.models[1:])
    assert with_options(every, None, [])[1] == {"name": "transformers"}
    with pytest.raises(ConfigError, match="--backend vllm would run no model: each of pair 'p' names"):
        with_options(every, "vllm", [])
