"""SCOPE behind the gateway: one model an answer, its estimates beside it, the knob of a request."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from stepwise import load_router
from stepwise.cli.main import main
from stepwise.errors import InfeasibleTarget
from stepwise.gateway.knob import Knob
from stepwise.gateway.schemas import Options
from stepwise.gateway.scoped import ShowingScope
from stepwise.routers.features import ESTIMATES
from stepwise.scope import AnchorSet, Fingerprint, FingerprintStore, Price, Scope
from stepwise.scope.routers import ScopePrior, Seeded
from stepwise.types import Problem, Trace
from tests.stepwise.backends.chat_server import Upstream, chat, upstream
from tests.stepwise.cli.test_serve import serve
from tests.stepwise.gateway.serving import app_of, client
from tests.stepwise.gateway.serving import chat as asking
from tests.stepwise.scope.worlds import ABILITY, problems, store

MODELS = tuple(ABILITY)
ANCHORS = AnchorSet(problems(80))
SCOPE = Scope(anchors=ANCHORS, fingerprints=store(ANCHORS))
ROUTER = ShowingScope(SCOPE, MODELS, 0.5)
HARD = "What is " + " plus ".join(["17"] * 13) + "?"
POLICY = load_router("nano-ppo", budget=0.4)
KNOB = Knob(MODELS, {"scope": ROUTER, "seeded": Seeded(POLICY, ROUTER)})


@asynccontextmanager
async def gateway(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[httpx.AsyncClient, Upstream]]:
    """Three providers, each with a key of its own."""
    for name in MODELS:
        monkeypatch.setenv(f"{name.upper()}_KEY", f"{name}'s key")
    async with upstream(lambda body: {**chat("The answer is 3."), "model": body["model"]}) as served:
        models = [served.model(name, served_name=name, api_key_env=f"{name.upper()}_KEY") for name in MODELS]
        pair = served.pair(*models)
        engine = pair.engine(cost="tokens", models=MODELS, failover=True)
        engine = engine.with_prior(ScopePrior(SCOPE, MODELS))
        async with client(app_of(engine, ROUTER)) as http:
            yield http, served
        await engine.close()


async def test_an_answer_is_one_call_to_the_model_that_scope_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    async with gateway(monkeypatch) as (http, served):
        for alpha, expected in ((0.0, "weak"), (1.0, "strong")):
            served.bodies.clear()
            served.headers.clear()
            body = asking(HARD, stepwise={"alpha": alpha})
            answer = (await http.post("/v1/chat/completions", json=body)).json()
            (choice,) = answer["choices"]
            assert [body["model"] for body in served.bodies] == [expected]
            assert served.headers[0]["Authorization"] == f"Bearer {expected}'s key"
            assert [step["model"] for step in choice["stepwise"]["steps"]] == [expected]
            estimates = choice["stepwise"]["estimates"]
            assert [estimate["model"] for estimate in estimates] == list(MODELS)
            asked = {each.model: each.p_correct for each in SCOPE.estimate(HARD, MODELS)}
            assert {each["model"]: each["p_correct"] for each in estimates} == asked


def test_alpha_is_turned_by_a_request() -> None:
    router, default = KNOB.router("stepwise:alpha=0.9", None)
    assert router == ShowingScope(SCOPE, MODELS, 0.9) and not default
    seeded, _ = KNOB.router("stepwise", Options(router="seeded", alpha=0.9, threshold=2.0))
    assert seeded == Seeded(POLICY.at(2.0), ShowingScope(SCOPE, MODELS, 0.9))
    promised, _ = KNOB.router("stepwise:router=seeded,budget=0.25", None)
    assert repr(promised) == repr(Seeded(load_router("nano-ppo", budget=0.25), ROUTER))


@pytest.mark.parametrize("budget", [0.3, 0.6, 1.0])
def test_a_budget_is_kept_on_the_anchors(budget: float) -> None:
    router, _ = KNOB.router(f"stepwise:budget={budget}", None)
    assert isinstance(router, ShowingScope) and router.alpha is not None
    large = SCOPE.settings(["strong"])[0].cost
    spent = {setting.alpha: setting.cost for setting in SCOPE.settings(MODELS)}
    assert spent[router.alpha] <= budget * large


def test_a_budget_below_the_cheapest_setting_names_the_nearest() -> None:
    with pytest.raises(InfeasibleTarget, match="the cheapest setting costs") as refused:
        KNOB.router("stepwise:budget=0.001", None)
    KNOB.router(f"stepwise:budget={refused.value.best * 1.001}", None)


def test_a_request_s_budget_binds_the_model_for_questions_unlike_the_anchors() -> None:
    strange = "Wie heißt die Hauptstadt?"
    trace = Trace(Problem("p", strange), estimates=tuple(SCOPE.estimate(strange, MODELS)))
    alone = [SCOPE.settings([model])[0].cost for model in MODELS]
    share = (alone[1] + alone[2]) / 2 / alone[2]
    default, _ = KNOB.router("stepwise", None)
    within, _ = KNOB.router(f"stepwise:budget={share}", None)
    assert default.decide(trace).model == "strong"
    assert within.decide(trace).model == "middling"


@pytest.mark.parametrize(
    "model, message",
    [
        ("stepwise:weak,alpha=0.5", "model: weak must be a number"),
        ("stepwise:router=weak,alpha=0.5", "alpha: the router 'weak' has none"),
        ("stepwise:alpha=0.5,budget=0.5", "takes either an alpha or a budget"),
        ("stepwise:max_accuracy_loss=0.1", "takes either an alpha or a budget"),
        ("stepwise:threshold=1", "the router 'scope' has none"),
    ],
)
def test_a_knob_turned_wrongly_is_refused(model: str, message: str) -> None:
    with pytest.raises(Exception, match=message):
        KNOB.router(model, None)


def test_an_alpha_outside_its_range_is_refused() -> None:
    with pytest.raises(Exception, match="alpha: must be less than or equal to 1"):
        KNOB.router("stepwise:alpha=1.5", None)


def test_fingerprints_of_other_models_name_both_pools(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ANCHORS.save(tmp_path / "anchors.json")
    FingerprintStore(tmp_path / "fingerprints.db").add(*store(ANCHORS))
    files = ("--anchors", str(tmp_path / "anchors.json"), "--fingerprints", str(tmp_path / "fingerprints.db"))
    assert main(["serve", "--router", "scope", *files]) == 2
    said = (
        "The pair served is nano (small, middle, large), and these fingerprints are of middling, strong, "
        "weak: give --pair with a file of those models."
    )
    assert said in capsys.readouterr().err


PRICES = {"small": 1.0, "middle": 2.0, "large": 3.0}


def fingerprinted(folder: Path) -> tuple[str, ...]:
    """Options that name anchors, and fingerprints of nano's models on them."""
    questions = [Problem(f"s{i}", f"How much is {i} + {i + 1}?", str(2 * i + 1)) for i in range(20)]
    AnchorSet(questions).save(folder / "anchors.json")
    fingerprints = FingerprintStore(str(folder / "f.db"))
    for model, each in PRICES.items():
        right: list[Any] = [int(model == "middle" or i % 3 == 0) for i in range(20)]
        fingerprints.add(
            Fingerprint(
                model=model, anchor_ids=[q.id for q in questions], correct=right, tokens=[40] * 20,
                price=Price(input=each, output=each),
            )
        )  # fmt: skip
    state = ("--state", str(folder / "state.json"))
    return "--anchors", str(folder / "anchors.json"), "--fingerprints", str(folder / "f.db"), *state


def ask(url: str) -> dict[str, Any]:
    body = {"model": "stepwise", "prompt": "Tom has 3 pens and buys 4 more. How many pens has Tom?"}
    answer = httpx.post(f"{url}/v1/completions", json=body, timeout=60).json()
    return dict(answer["choices"][0]["stepwise"])


def test_the_command_serves_all_models_of_a_pair(tmp_path: Path) -> None:
    with serve("--router", "scope", "--alpha", "0.9", *fingerprinted(tmp_path)) as (url, _):
        said = ask(url)
    assert {step["model"] for step in said["steps"]} == {"middle"}
    assert [each["model"] for each in said["estimates"]] == list(PRICES)


def test_a_policy_that_observes_estimates_is_given_them_or_refused_before_models_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = POLICY.artifact
    width = {"w0": np.pad(shipped.weights["w0"], ((0, 0), (0, len(ESTIMATES))))}
    features = (*shipped.features, *ESTIMATES)
    replace(shipped, features=features, weights={**shipped.weights, **width}).save(tmp_path / "policy")
    asked = ("--router", str(tmp_path / "policy"), "--threshold", "0.5")
    with serve(*asked, *fingerprinted(tmp_path)) as (url, _):
        assert [each["model"] for each in ask(url)["estimates"]] == ["small", "large"]
    monkeypatch.setattr("stepwise.models.pair.Pair.engine", lambda *_, **__: pytest.fail("models are loaded"))
    for command in (["serve", "--port", "0"], ["solve", "1 + 1?"], ["chat"]):
        assert main([*command, *asked]) == 2
        assert "observes SCOPE's estimates, which `stepwise serve` asks for" in capsys.readouterr().err


async def test_the_documented_pair_is_served_from_a_table_without_costs(tmp_path: Path) -> None:
    rows = [f"{p.question},{m},{int(m == 'large')}" for p in problems(60) for m in ("small", "large")]
    (tmp_path / "results.csv").write_text("\n".join(["question,model,correct", *rows]))
    assert main(["scope", "import", str(tmp_path / "results.csv"), "--folder", str(tmp_path)]) == 0
    page = Path("docs/scope.md").read_text(encoding="utf-8")
    documented = page.split("```yaml\n")[1].split("```")[0]
    documented = re.sub(r"my-(\w+)-model", r"\1", documented)  # the names that the server has
    names = ("anchors", "anchors.json"), ("fingerprints", "fingerprints.db"), ("pair", "mine.yaml")
    files = [part for option, name in names for part in (f"--{option}", str(tmp_path / name))]
    state = ("--state", str(tmp_path / "state.json"))

    def asked() -> dict[str, Any]:
        with serve("--router", "scope", "--cost", "dollars", *files, *state) as (url, _):
            message = {"role": "user", "content": problems(1)[0].question}
            body = {"model": "stepwise:alpha=0.9", "messages": [message]}
            answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
            return dict(answer["choices"][0]["stepwise"])

    def reply(body: dict[str, Any]) -> dict[str, Any]:
        return {**chat("The answer is 3."), "model": body["model"]}

    async with upstream(reply) as served:
        (tmp_path / "mine.yaml").write_text(re.sub(r"http://localhost:\d+/v1", served.url, documented))
        said = await asyncio.to_thread(asked)
    question = problems(1)[0].question  # the server looks after its upstreams with calls of its own
    assert [body["model"] for body in served.bodies if question in str(body)] == ["large"]
    assert [step["model"] for step in said["steps"]] == ["large"] and said["cost_unit"] == "$"
    assert [each["cost"] > 0 for each in said["estimates"]] == [True, True]
