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


numbers = st.floats() | st.sampled_from([0.0, -0.1, -9999.0, math.nan, -math.inf, math.inf, 5.0])


@given(st.lists(st.tuples(numbers, st.lists(numbers, max_size=4)), min_size=1, max_size=5))
def test_whatever_numbers_come_signals_are_in_their_ranges_or_missing(
    tokens: list[tuple[float, list[float]]],
) -> None:
    signals = measure([chosen for chosen, _ in tokens], [row for _, row in tokens])
    assert signals.length == len(tokens) and signals.known is not signals.missing
    assert math.isfinite(signals.mean_logprob) and math.isfinite(signals.min_logprob)
    assert signals.min_logprob <= signals.mean_logprob <= 0.0 or signals.missing
    assert 0.0 <= signals.margin <= 1.0 and 0.0 <= signals.first_entropy <= math.log(20)


@pytest.mark.parametrize(
    ("chosen", "row"),
    [
        (math.nan, [-0.1, -2.0]),
        (-math.inf, [-0.1, -2.0]),
        (0.5, [0.5, -2.0]),
        (-0.1, []),
        (-0.1, [-0.1]),
        (-0.1, [math.nan, -2.0]),
        (-0.1, [-0.1, math.nan]),
        (-0.1, [-3.0, -4.0]),
        (-1e300, [-1e300, -1e300]),
    ],
)
def test_what_cannot_be_a_log_probability_is_no_signal(chosen: float, row: list[float]) -> None:
    signals = measure([-0.2, chosen], [[-0.2, -2.0], row])
    assert signals == Signals(length=2, missing=True) and not signals.known
    assert measure([-0.2], []).missing
    whole = measure([-0.2], [[-0.2, -2.0]])
    assert join(whole, signals).missing and join(signals, whole).missing
