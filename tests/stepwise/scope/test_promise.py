"""A promised budget is kept on new questions as often as it says."""

from __future__ import annotations

import numpy as np

from stepwise.scope.promise import Setting, best_within, promised

ALPHAS = np.linspace(0, 1, 40)
DELTA, SPLITS, ANCHORS = 0.1, 400, 200


def draw(random: np.random.Generator) -> list[Setting]:
    """The expensive model, 20 times the price, answers a share alpha of the questions; lengths vary."""
    hard, length = random.random(ANCHORS), random.lognormal(0, 0.5, ANCHORS)
    costs = [length * np.where(hard < alpha, 20.0, 1.0) for alpha in ALPHAS]
    return [
        Setting(float(alpha), float(alpha), float(c.mean()), c)
        for alpha, c in zip(ALPHAS, costs, strict=True)
    ]


def test_a_budget_is_overrun_in_at_most_delta_of_the_splits() -> None:
    """By its expectation, and by what as many new questions cost; the best in-sample setting overruns it in
    about half of them."""
    random = np.random.default_rng(0)
    budget = 6.0
    overruns = {"promised": 0, "in sample": 0, "new questions": 0}
    for _ in range(SPLITS):
        settings = draw(random)
        within = max((s for s in settings if s.cost <= budget), key=lambda s: s.value)
        for name, chosen in (("promised", best_within(settings, budget, DELTA)), ("in sample", within)):
            expected = np.exp(0.5**2 / 2) * (1 + 19 * chosen.alpha)
            overruns[name] += bool(expected > budget)
            if name == "promised":
                new = draw(random)[int(np.searchsorted(ALPHAS, chosen.alpha))]
                overruns["new questions"] += bool(new.cost > budget)
    assert overruns["promised"] <= DELTA / 2 * SPLITS
    assert 0.02 * SPLITS < overruns["new questions"] <= DELTA * SPLITS
    assert overruns["in sample"] > 0.3 * SPLITS


def test_the_first_failure_ends_the_sequence() -> None:
    settings = draw(np.random.default_rng(1))
    passed = promised(settings, 6.0, DELTA)
    assert 0 < len(passed) < len(settings)
    assert passed == settings[: len(passed)]
    assert not promised(settings[len(passed) :], 6.0, DELTA)


def test_a_budget_above_every_cost_is_always_promised() -> None:
    settings = draw(np.random.default_rng(2))
    assert best_within(settings, max(s.costs.max() for s in settings), 1e-6) == settings[-1]
