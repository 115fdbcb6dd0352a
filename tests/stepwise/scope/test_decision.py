"""Value less cost, and the paper's utility: what each does with a pool."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwise.errors import ConfigError
from stepwise.scope import AnchorSet, Scope
from stepwise.scope.decision import Rule, min_max, net_value, sweep, utility
from tests.stepwise.scope import specialists

POOLS = st.lists(st.tuples(st.floats(0, 1), st.floats(1e-6, 10)), min_size=1, max_size=6)


@given(POOLS, st.floats(0, 1), st.floats(0, 1))
def test_a_model_that_is_better_and_cheaper_is_never_passed_over(
    pool: list[tuple[float, float]], alpha: float, w_base: float
) -> None:
    value, cost = np.array(pool).T[:, :, None]
    best = np.array([[min(1.0, value.max() + 0.01)], [cost.min() / 2]])
    value, cost = np.vstack([value, best[:1]]), np.vstack([cost, best[1:]])
    for scores in (
        utility(value, cost, value, cost, alpha, w_base)[:, 0],
        net_value(value, cost, alpha, cost.max())[:, 0],
    ):
        assert scores[-1] >= scores.max() - 1e-12


@given(POOLS, st.floats(0, 1), st.floats(0, 1))
def test_more_alpha_never_buys_a_worse_model(
    pool: list[tuple[float, float]], alpha: float, other: float
) -> None:
    value, cost = np.array(pool).T[:, :, None]
    low, high = (int(net_value(value, cost, a, 1.0)[:, 0].argmax()) for a in sorted((alpha, other)))
    assert value[high] >= value[low] - 1e-9 and (cost[high] >= cost[low] - 1e-9 or value[high] >= value[low])


def test_the_net_value_by_hand() -> None:
    """At alpha 2/3 a right answer is worth twice the dearest model."""
    value, cost = np.array([[0.5], [0.9]]), np.array([[1.0], [4.0]])
    assert net_value(value, cost, 2 / 3, 4.0)[:, 0] == pytest.approx([1 / 3 - 1 / 12, 0.6 - 1 / 3])
    assert net_value(value, cost, 0.0, 4.0)[:, 0].tolist() == [-0.25, -1.0]
    assert net_value(value, cost, 1.0, 4.0)[:, 0].tolist() == [0.5, 0.9]
    with pytest.raises(ConfigError, match="alpha must lie in"):
        net_value(value, cost, 1.1, 4.0)


def test_the_utility_by_hand() -> None:
    """Two models, alpha 1/2: gamma 4, w = .2 * .75."""
    value, cost = np.array([[0.2], [0.6]]), np.array([[1.0], [np.e**2]])
    scores = utility(value, cost, value, cost, 0.5)
    assert scores[:, 0] == pytest.approx([0.15 * 0.5 + 0.85 * (0.1 + 0.5), 0.15 * 0.5 + 0.85 * 0.3])
    assert min_max(np.array([[3.0], [3.0]])).tolist() == [[0.5], [0.5]]
    for name, given_ in (("alpha", (1.1, 0.2)), ("w_base", (0.5, -0.1))):
        with pytest.raises(ConfigError, match=f"{name} must lie in"):
            utility(value, cost, value, cost, *given_)


def bought(rule: Rule, budget: float) -> tuple[float, float]:
    """Mean chance of being right, and cost, on new questions, of what a promised budget chooses."""
    anchors = AnchorSet(specialists.problems(250))
    scope = Scope(
        anchors=anchors, fingerprints=specialists.store(anchors), decision=rule, outside="estimates"
    )
    fresh = specialists.problems(400, seed=1)
    questions = [problem.question for problem in fresh]
    scores = scope.utilities(questions, budget=budget)(scope.alpha_for(budget).alpha)
    names = [scope.known.models[row] for row in scores.argmax(axis=0)]
    chances = [specialists.chance(name, problem) for name, problem in zip(names, fresh, strict=True)]
    return float(np.mean(chances)), float(np.mean([specialists.cost(name) for name in names]))


def test_one_dear_model_does_not_hide_what_lies_between() -> None:
    """The paper's utility goes from the cheapest model to the dearest; a budget for most of the specialists'
    prices must buy most of what they know."""
    budget = 0.9 * float(np.mean([specialists.cost(topic) for topic in specialists.TOPICS]))
    right, spent = bought("net", budget)
    assert right > 0.75 and spent < budget
    assert right > bought("utility", budget)[0] + 0.1


def test_a_decision_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="decision must be one of net, utility, not 'best'"):
        Scope(
            anchors=AnchorSet(specialists.problems(3)),
            fingerprints=specialists.store(AnchorSet(specialists.problems(3))),
            decision="best",  # type: ignore[arg-type]
        )


def test_a_sweep_looks_where_the_cost_moves() -> None:
    steep = sweep(lambda alpha: 1 / (1 + np.exp(-900 * (alpha - 0.7312))), lambda cost: cost)
    assert len(steep) == 201 and max(np.diff(steep)) < 0.05
    assert len(sweep(lambda alpha: 1.0, lambda cost: cost)) == 21
