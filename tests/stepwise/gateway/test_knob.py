"""The knob: what a request may ask of cost, and what it gets."""

from __future__ import annotations

from typing import Any

import pytest

from stepwise import load_router
from stepwise.calibration import OnlineThreshold
from stepwise.errors import ConfigError, InfeasibleTarget
from stepwise.gateway.failures import Refusal
from stepwise.gateway.knob import Knob, record_of
from stepwise.gateway.schemas import Options
from stepwise.routers import Always, Random
from stepwise.types import Router
from tests.stepwise.gateway.serving import CONFIDENCE

POLICY = load_router("nano-ppo", budget=0.4)
MODELS = ("tiny", "middle", "huge")
KNOB = Knob(MODELS, {"nano-ppo": POLICY, "confidence": CONFIDENCE, "random": Random(0.5)})


def test_the_server_s_default() -> None:
    assert KNOB.router("stepwise", None) == (POLICY, True)


@pytest.mark.parametrize(
    "model, options, expected",
    [
        ("stepwise:budget=0.25", None, load_router("nano-ppo", budget=0.25)),
        ("stepwise", {"budget": 0.25}, load_router("nano-ppo", budget=0.25)),
        ("stepwise:threshold=0.6", None, POLICY.at(0.6)),
        ("stepwise:threshold=-1e0", None, POLICY.at(-1.0)),
        ("stepwise:max_accuracy_loss=0.1", None, load_router("nano-ppo", max_accuracy_loss=0.1)),
        (
            "stepwise:budget=0.5, max_accuracy_loss=0.1",
            None,
            load_router("nano-ppo", budget=0.5, max_accuracy_loss=0.1),
        ),
        ("stepwise:small", None, Always("tiny")),
        ("stepwise:large", None, Always("huge")),
        ("stepwise:middle", None, Always("middle")),
        ("stepwise:confidence", None, CONFIDENCE),
        ("stepwise:random", {}, Random(0.5)),
        ("stepwise:router=nano-ppo,threshold=2", None, POLICY.at(2.0)),
    ],
)
def test_a_request_turns_the_knob(model: str, options: Any, expected: Any) -> None:
    given = None if options is None else Options.model_validate(options)
    router, default = KNOB.router(model, given)
    assert repr(router) == repr(expected) and not default


def test_any_router_with_a_threshold_can_be_turned() -> None:
    router, _ = KNOB.router("stepwise", Options(router="confidence", threshold=2.5))
    assert router == type(CONFIDENCE)(CONFIDENCE.scorer, 2.5, "confidence")


@pytest.mark.parametrize(
    "model, message",
    [
        ("gpt-4", "there is no model 'gpt-4' here; use one of stepwise, stepwise:nano-ppo"),
        ("stepwise:giant", "there is no router 'giant'"),
        ("stepwise:router=giant", "there is no router 'giant'"),
        ("stepwise:budget=much", "budget must be a number, not 'much'"),
        ("stepwise:budget=0.2,budget=0.3", "sets a value twice"),
        ("stepwise:thrift=0.2", "thrift: is not a field"),
        ("stepwise:budget=nan", "finite number"),
        ("stepwise:budget=0.3,threshold=1", "either a threshold, or a budget"),
        ("stepwise:budget=1.5", "a fraction of large-only cost, not dollars"),
        ("stepwise:router=random,threshold=1", "the router 'random' has none"),
        ("stepwise:router=confidence,budget=0.4", "the router 'confidence' is not calibrated"),
        ("stepwise:router=small,budget=0.4", "the router 'tiny' is not calibrated"),
    ],
)
def test_a_knob_turned_wrongly_is_refused(model: str, message: str) -> None:
    with pytest.raises((Refusal, ConfigError), match=message):
        KNOB.router(model, None)


def test_the_knob_is_turned_once() -> None:
    with pytest.raises(Refusal, match="both choose a router"):
        KNOB.router("stepwise:small", Options(budget=0.3))


def test_a_budget_out_of_reach_names_the_nearest_one_that_is_not() -> None:
    with pytest.raises(InfeasibleTarget) as refused:
        KNOB.router("stepwise:budget=0.02", None)
    nearest = refused.value.best
    assert 0.02 < nearest < 0.1 and f"{nearest:.3f}" in str(refused.value)
    KNOB.router(f"stepwise:budget={nearest}", None)


def test_the_online_threshold_moves_the_default_alone() -> None:
    online = OnlineThreshold(record_of(POLICY), 0.4)
    knob = Knob(MODELS, {"nano-ppo": POLICY, "confidence": CONFIDENCE}, online)
    before, default = knob.router("stepwise", None)
    assert default and before == POLICY.at(online.threshold)
    online.update(3.0)
    assert knob.router("stepwise", None)[0] == POLICY.at(online.threshold) != before
    assert knob.router("stepwise:nano-ppo", None)[0] == POLICY.at(online.threshold)
    assert knob.router("stepwise:threshold=1", None)[0] == POLICY.at(1.0)


def test_routers_that_cannot_be_served_are_refused() -> None:
    for routers, message in (
        ({}, "needs at least one"),
        ({"small": POLICY}, "'small' is a model's name"),
        ({"huge": POLICY}, "'huge' is a model's name"),
    ):
        with pytest.raises(ConfigError, match=message):
            Knob(MODELS, routers)
    with pytest.raises(ConfigError, match="the router 'random' has none"):
        Knob(MODELS, {"random": Random(0.5)}, OnlineThreshold(record_of(POLICY), 0.4))
    assert Knob(MODELS, {"tiny": Always("tiny")}).router("stepwise", None)[0] == Always("tiny")


def test_an_alias_is_another_name() -> None:
    knob = Knob(MODELS, {"nano-ppo": POLICY}, aliases={"gpt-4o": "stepwise", "fast": "stepwise:budget=0.25"})
    assert knob.router("gpt-4o", None) == knob.router("stepwise", None)
    assert repr(knob.router("fast", None)) == repr(knob.router("stepwise:budget=0.25", None))
    assert repr(knob.router("gpt-4o", Options(budget=0.25))) == repr(knob.router("fast", None))
    assert knob.names[-2:] == ["gpt-4o", "fast"]


@pytest.mark.parametrize(
    "name, model, message",
    [
        ("gpt-4o", "nothing", "alias 'gpt-4o': there is no model 'nothing' here"),
        ("gpt-4o", "stepwise:budget=0.001", "alias 'gpt-4o': .* the least that can"),
        (
            "stepwise:small",
            "stepwise",
            "alias 'stepwise:small': it must be a name that is not",
        ),
    ],
)
def test_an_alias_of_nothing_is_refused(name: str, model: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Knob(MODELS, {"nano-ppo": POLICY}, aliases={name: model})


@pytest.mark.parametrize(
    "router, example", [(CONFIDENCE, ", or stepwise:threshold=1.0."), (Always("tiny"), "stepwise:huge.")]
)
def test_an_unknown_model_is_answered_with_a_setting_that_works(router: Router, example: str) -> None:
    """Behind a rule a budget would be refused next."""
    with pytest.raises(Refusal) as refused:
        Knob(MODELS, {"mine": router}).router("gpt-4o", None)
    assert str(refused.value).endswith(example) and "budget" not in str(refused.value)
