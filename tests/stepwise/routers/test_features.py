"""The features that a policy may ask for beyond the signals of its drafts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.tree import view
from stepwise.errors import ConfigError, StepwiseError
from stepwise.routers.features import ESTIMATES, FEATURES, QUESTION, bounds, embedding, expand, observe
from stepwise.types import Estimate, Problem, Trace


def test_groups_stand_for_their_members_in_the_order_given() -> None:
    assert expand(["signals"]) == FEATURES
    assert expand(["question", "trust"]) == (*QUESTION, "trust")
    assert view(["estimates", "position"]).features == (*ESTIMATES, "position")


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
    told = (Estimate("m", 0.9, 9.0, None), Estimate("l", 0.75, 1024.0, 2.0), Estimate("s", 0.25, 128.0, 1.0))
    seen = observe(replace(trace, estimates=told), "s", "l", (*ESTIMATES, "position"))
    assert seen.tolist() == [0.25, 0.75, 0.25, 1.0, 0.0]


@given(st.text(max_size=200))
def test_an_embedding_stays_in_its_range(question: str) -> None:
    vector = np.array(embedding(question))
    low, high = bounds(QUESTION)
    assert vector.shape == low.shape and (vector >= low).all() and (vector <= high).all()
    assert np.linalg.norm(vector) <= 1.0 + 1e-9


def test_questions_alike_in_words_are_near_and_numbers_do_not_matter() -> None:
    one, two, other = (
        np.array(embedding(question))
        for question in (
            "Ben picked 12 apples. How many apples are left?",
            "Ben picked 75 apples. How many apples are left?",
            "A train covers the distance between both towns at constant speed.",
        )
    )
    assert one @ two == pytest.approx(1.0)
    assert one @ other < 0.7
