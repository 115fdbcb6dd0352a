"""Costs, worked out by hand."""

from __future__ import annotations

import pytest

from stepwise.engine.cost import Dollars, Flops, Price, Seconds, Speed, Tokens
from stepwise.errors import ConfigError
from stepwise.types import Usage

USAGE = {"small": Usage(100, 60, 20, 5), "large": Usage(200, 0, 10, 0)}


def test_flops_are_two_per_parameter_and_computed_token() -> None:
    assert Flops({"small": 10, "large": 1000})(USAGE) == 2 * 10 * (40 + 20 + 5) + 2 * 1000 * (200 + 10)


def test_tokens_count_what_was_computed() -> None:
    assert Tokens()(USAGE) == 65 + 210


def test_dollars_follow_the_price_list() -> None:
    prices = {"small": Price(1.0, 4.0, 0.1), "large": Price(10.0, 40.0)}
    expected = (40 * 1.0 + 60 * 0.1 + 25 * 4.0 + 200 * 10.0 + 10 * 40.0) / 1e6
    assert Dollars(prices)(USAGE) == pytest.approx(expected)
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="price: output must be a number of dollars"):
            Price(1.0, bad)
    assert Dollars({"m": Price(1.0, 4.0)})({"m": Usage(10, 10, 0, 0)}) == pytest.approx(1e-5)


def test_a_model_without_a_price_is_named() -> None:
    with pytest.raises(ConfigError, match="model 'large' has no price"):
        Dollars({"small": Price(1.0, 1.0)})(USAGE)


def test_seconds_are_of_what_was_read_written_and_called() -> None:
    speeds = {"small": Speed(0.001, 0.01, 0.1), "large": Speed(0.01, 0.1, 1.0)}
    usage = {"small": Usage(100, 60, 20, 5, calls=3), "large": Usage(200, 0, 10).called()}
    assert Seconds(speeds)(usage) == pytest.approx(40 * 0.001 + 25 * 0.01 + 0.3 + 200 * 0.01 + 10 * 0.1 + 1.0)
    with pytest.raises(ConfigError, match="model 'large' has no measured speed"):
        Seconds({"small": speeds["small"]})(usage)


def test_a_call_is_counted_once_and_kept() -> None:
    assert Usage(completion=5).called().calls == 0  # a generation that goes on
    both = Usage(10, 0, 5).called() + Usage(20, 10, 5).called()
    assert both.known(5).rejected().calls == 2
