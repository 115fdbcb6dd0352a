"""The features that a policy may ask for beyond the signals of its drafts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwise import load_router
from stepwise.errors import ConfigError, StepwiseError
from stepwise.routers import features
from stepwise.routers.features import (
    ESTIMATES,
    GROUPS,
    QUESTION,
    SIGNALS,
    bounds,
    expand,
    fit,
    observe,
    table,
)
from stepwise.routers.question import embedding
from stepwise.types import Estimate, Problem, Signals, Step, Trace

Line = tuple[str, int, float, float, float, float]
RECORDED: list[Line] = [
    ("large", 25, -0.00023297703649831193, -0.0021312159951776266, 2.4777611961774e-05, 0.9967932569634543),
    ("large", 25, -3.5763556296046774e-05, -0.0003305127320345491, 0.0007637544334237867, 0.9995342413974693),
    ("small", 24, -0.0077480922568916215, -0.1790606826543808, 0.0036501052483948015, 0.7836928689327746),
    ("small", 24, -0.0014097273758754507, -0.02610558643937111, 0.002305147440988464, 0.9592583675456262),
    ("small", 24, -0.00816533995953724, -0.18572241067886353, 0.0009084150349599684, 0.7554147861975088),
    ("small", 25, -0.0022905397000400284, -0.02742519974708557, 0.007793533269564647, 0.9495919664066494),
    ("large", 25, -7.16291643010436e-05, -0.0012674640165641904, 0.0004178874476829015, 0.9982325548681408),
    ("small", 25, -0.003203675547306375, -0.06282216310501099, 0.016511878625173823, 0.9098547106473248),
]  # fmt: skip
"""A chain of nano's: who wrote the step, its tokens, and what its writer's probabilities said."""
REJECTED: Line = (
    "small", 25, -0.030752324648052252, -0.7369851469993591, 0.009143146105329217, 0.23568911886486987,
)  # fmt: skip
FIRST: Line = (
    "small", 25, -0.11945811332335325, -1.1196194887161255, 0.0015487593648526286, 0.07577228123295354,
)  # fmt: skip
QUESTION_TEXT = (
    "Felix packed 78 toys and lost 12 of them. Cara packed a third as many toys as Felix. Emma packed twice "
    "as many toys as Cara. Iris packed half as many toys as Emma. Paul packed twice as many toys as Iris. "
    "Anna packed a quarter as many toys as Paul. Tina packed eight times as many toys as Anna. Rosa packed a "
    "quarter as many toys as Tina. How many toys did Rosa pack?"
)


def recorded(steps: int, draft: Line | None) -> Trace:
    def step(model: str, tokens: int, mean: float, least: float, entropy: float, margin: float) -> Step:
        signals = Signals(mean, least, entropy, margin, length=tokens)
        return Step("", tuple(range(tokens)), model, {}, signals)

    written = tuple(step(*line) for line in RECORDED[:steps])
    problem = Problem("nano", QUESTION_TEXT, "22")
    return Trace(problem, written, draft=step(*draft) if draft else None, prompt_tokens=89)


@pytest.mark.parametrize(
    "steps, draft, observation, score",
    [
        (0, FIRST, [
            0.32640397548675537, -0.22392389178276062, -0.11945811659097672, 0.0005169885698705912,
            0.07577227801084518, 0.050466131418943405, 0.390625, 0.0, 0.34765625, 0.173828125,
            0.0, 0.0, 1.0, 1.0,
        ], 0.8365399837493896),
        (6, REJECTED, [
            0.47855451703071594, -0.1473970264196396, -0.03075232543051243, 0.003052057232707739,
            0.23568911850452423, 0.46356526017189026, 0.390625, 0.375, 0.34765625, 0.189453125,
            0.3333333432674408, 0.0, 0.8305041193962097, 0.658155620098114,
        ], 0.6190580725669861),
        (7, RECORDED[7], [
            0.9391104578971863, -0.012564432807266712, -0.003203675616532564, 0.005511800292879343,
            0.9098547101020813, 0.9230315089225769, 0.390625, 0.4375, 0.34765625, 0.0, 0.4285714328289032,
            1.0, 0.8305041193962097, 0.658155620098114,
        ], -0.030369717627763748),
    ],
)  # fmt: skip
def test_the_shipped_policy_sees_in_a_recorded_chain_what_it_was_trained_on(
    steps: int, draft: Line, observation: list[float], score: float
) -> None:
    trace = recorded(steps, draft)
    assert observe(trace, "small", "large").tolist() == observation
    assert load_router("nano-ppo", threshold=0.5).decide(trace).score == pytest.approx(score, abs=1e-5)


def test_a_recorded_question_keeps_its_embedding() -> None:
    assert observe(recorded(0, None), "small", "large", QUESTION).tolist() == [
        -0.040258485823869705, 0.040258485823869705, 0.6441357731819153, 0.0, -0.40258485078811646,
        -0.08051697164773941, 0.08051697164773941, -0.12077545374631882, 0.28180938959121704,
        0.040258485823869705, 0.0, 0.08051697164773941, 0.5233603119850159, 0.12077545374631882,
        0.040258485823869705, -0.12077545374631882,
    ]  # fmt: skip


def test_without_a_draft_its_features_are_0() -> None:
    observed = observe(recorded(7, None), "small", "large", ("draft_worst", "trust", "draft_length"))
    assert observed.tolist() == [0.0, pytest.approx(0.658155620098114), 0.0]


def test_the_tables_come_from_the_declarations() -> None:
    lines = table(["question_0", "question_1", "draft_min"]).splitlines()
    assert [line.split(" | ")[:3] for line in lines[2:]] == [
        ["| 0 .. 1", "question_0 .. question_1", "[-1, 1]"],
        ["| 2     ", "draft_min               ", "[-1, 0]"],
    ]
    for declared in (feature for group in GROUPS.values() for feature in group):
        assert declared.meaning in str(features.__doc__)


def test_groups_stand_for_their_members_in_the_order_given() -> None:
    assert expand(["signals"]) == SIGNALS
    assert expand(["question", "trust"]) == (*QUESTION, "trust")
    assert expand(["estimates", "position"]) == (*ESTIMATES, "position")


@pytest.mark.parametrize(
    "names, message",
    [
        (["signal"], "features must be among signals, estimates, question, .* not 'signal'"),
        (["signals", "trust"], "different names"),
        ([], "different names, not empty"),
    ],
)
def test_unknown_and_repeated_features_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        expand(names)


def test_estimates_are_read_by_model_and_missed_where_they_are_not() -> None:
    trace = Trace(Problem("p", "How many?"))
    with pytest.raises(StepwiseError, match="the trace has none; give the engine a prior"):
        observe(trace, "s", "l", ESTIMATES)
    made = (Estimate("m", 0.9, 9.0, None), Estimate("l", 0.75, 1024.0, 2.0), Estimate("s", 0.25, 128.0, 1.0))
    seen = observe(replace(trace, estimates=made), "s", "l", (*ESTIMATES, "position"))
    assert seen.tolist() == [0.25, 0.75, 0.25, 1.0, 0.0]


def lengthened(steps: int, tokens: int) -> Trace:
    """A chain as a real model writes it: many steps of many tokens, each with an unlikely one."""
    signals = Signals(-0.1, -1.5, 0.5, 0.2, length=tokens)
    step = Step("", tuple(range(tokens)), "small", {}, signals)
    return Trace(Problem("long", "Prove it.", "1"), (step,) * steps, stop="answered", prompt_tokens=900)


def test_by_default_long_chains_saturate_and_fitted_scales_tell_their_steps_apart() -> None:
    chain = lengthened(40, 120)
    parts = [replace(chain, steps=chain.steps[:done], draft=chain.steps[0], stop=None) for done in range(40)]
    names = ("position", "unread", "trust", "draft_length", "draft_whole", "prompt_length")
    usual = np.array([observe(part, "small", "large", names) for part in parts])
    assert (usual[16:, :2] == 1.0).all() and (usual[4:, 2] < 0.01).all() and (usual[:, 3] == 1.0).all()
    scales = fit([chain], "small", "large", names)
    fitted = np.array([observe(part, "small", "large", names, scales) for part in parts])
    assert (np.diff(fitted[:, :2], axis=0) > 0.0).all() and fitted[20, 2] == pytest.approx(
        np.exp(-1.0), rel=0.1
    )
    assert fitted[0, 3] == 1.0 and fitted[0, 4] == pytest.approx(np.exp(-1.0))
    assert dict(scales)["position"] == 40 and dict(scales)["prompt_length"] == 900


def test_what_chains_do_not_show_keeps_its_scale() -> None:
    silent = replace(lengthened(1, 8).steps[0], signals=Signals(length=8, missing=True))
    chain = replace(lengthened(1, 8), steps=(silent,))
    assert dict(fit([chain], "small", "large", (*SIGNALS, *ESTIMATES))) == {
        "position": 1.0, "prompt_length": 900.0, "unread": 908.0,
    }  # fmt: skip
    assert fit([], "small", "large", SIGNALS) == ()


@given(st.text(max_size=200))
def test_an_embedding_stays_in_its_range(question: str) -> None:
    vector = np.array(embedding(question))
    low, high = bounds(QUESTION)
    assert vector.shape == low.shape and (vector >= low).all() and (vector <= high).all()
    assert np.linalg.norm(vector) <= 1.0 + 1e-9


def test_questions_alike_in_words_are_near_and_numbers_do_not_matter() -> None:
    apples, more_apples, trains = (
        np.array(embedding(question))
        for question in (
            "Ben picked 12 apples. How many apples are left?",
            "Ben picked 75 apples. How many apples are left?",
            "A train covers the distance between both towns at constant speed.",
        )
    )
    assert apples @ more_apples == pytest.approx(1.0)
    assert apples @ trains < 0.7
