"""Signals of a text and of its parts."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwise.engine.signals import entropy, join, measure
from stepwise.types import Signals

logprobs = st.lists(st.floats(-20, -1e-3), min_size=2, max_size=12)


def test_known_values() -> None:
    found = measure(
        [math.log(0.5), math.log(0.9)], [[math.log(0.5), math.log(0.5)], [math.log(0.9), math.log(0.1)]]
    )
    assert found.min_logprob == math.log(0.5)
    assert found.mean_logprob == pytest.approx((math.log(0.5) + math.log(0.9)) / 2)
    assert found.first_entropy == pytest.approx(math.log(2))
    assert found.margin == pytest.approx(0.0)
    assert found.length == 2
    assert measure([], []) == Signals()


def test_entropy_looks_at_the_renormalised_top_twenty() -> None:
    assert entropy([math.log(1e-3)] * 40) == pytest.approx(math.log(20))
    assert entropy([0.0, -math.inf]) == 0.0


@given(logprobs, st.integers(1, 11))
def test_a_text_in_two_parts_has_the_signals_of_the_whole(values: list[float], cut: int) -> None:
    cut = min(cut, len(values) - 1)
    top = [[value, value - 1.0] for value in values]
    whole = measure(values, top)
    parts = join(measure(values[:cut], top[:cut]), measure(values[cut:], top[cut:]))
    assert parts.min_logprob == whole.min_logprob and parts.length == whole.length
    assert parts.first_entropy == whole.first_entropy and parts.margin == whole.margin
    assert parts.mean_logprob == pytest.approx(whole.mean_logprob)
