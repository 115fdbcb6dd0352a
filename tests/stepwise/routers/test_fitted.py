"""Scorers with fitted numbers: STEER's mixture and routing by query."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from scipy.stats import norm

from stepwise.errors import ConfigError
from stepwise.routers import LowConfidence, NeedsLarge
from stepwise.routers.fitted import words
from stepwise.types import Signals, Trace
from tests.worlds import engine, problem

MIXTURE = LowConfidence((0.3, 0.7), (-0.9, -0.1), (0.4, 0.05))


def after(value: float, model: str = "small") -> Trace:
    """A chain whose last step had this mean log-probability."""
    world = engine()
    chain = world.start(problem(1, 2))
    step = replace(world.run(world.advance(chain, model)), signals=Signals(mean_logprob=value, length=3))
    return replace(chain.trace, steps=(step,))


@pytest.mark.parametrize("value", [-3.0, -0.9, -0.3, -0.2, -0.1, 0.0])
def test_steer_scores_with_the_posterior_of_the_mixture(value: float) -> None:
    low, high = (
        weight * norm.pdf(value, mean, deviation)
        for weight, mean, deviation in zip(MIXTURE.weights, MIXTURE.means, MIXTURE.deviations, strict=True)
    )
    assert MIXTURE.score(after(value)) == pytest.approx(low / (low + high))


def test_steer_trusts_the_start_and_what_the_large_model_wrote() -> None:
    assert MIXTURE.score(Trace(problem(1))) == 0.0
    assert MIXTURE.score(after(-3.0, "large")) == 0.0


def test_words_keep_the_size_of_numbers_only() -> None:
    assert words("Tom has 3 boxes, 120 pens.") == ["tom", "has", "#", "boxes", ",", "###", "pens", "."]


def test_the_query_scorer_is_a_logistic_regression_on_words(tmp_path: Path) -> None:
    file = tmp_path / "query.json"
    file.write_text(json.dumps({"bias": -1.0, "weights": {"#": 0.5, "##": 2.0}}))
    scorer = NeedsLarge.load(str(file))
    assert scorer.score(Trace(problem(1, 2))) == pytest.approx(0.5)
    assert scorer.score(Trace(problem(11))) == pytest.approx(1 / (1 + 2.718281828**-1))


def test_a_missing_fit_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"scripts\.baselines\.fit"):
        NeedsLarge.load(str(tmp_path / "none.json"))
