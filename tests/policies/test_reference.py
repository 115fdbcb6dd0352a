"""What the models do alone, where some chains fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count

import pytest

from policies.reference import Reference, measure_ends, measure_reference
from stepwise.engine.cost import Tokens
from stepwise.engine.engine import Engine
from stepwise.errors import BackendError, ConfigError
from tests.worlds import engine, problem

PROBLEMS = [problem(a, b) for a in (1, 7) for b in range(10)]


def world(fails: Callable[[int, str], bool]) -> Engine:
    """The large model fails the calls that are named by number and text."""
    calls, made = count(), engine()

    async def before(text: str) -> None:
        if fails(next(calls), text):
            raise BackendError("gone")

    made.backends["large"]._before = before  # type: ignore[attr-defined]
    return made


def test_failures_that_pass_change_nothing() -> None:
    whole = engine().run(measure_reference(engine(), PROBLEMS))
    shaky = world(lambda call, _: call in (3, 7, 20))
    assert shaky.run(measure_reference(shaky, PROBLEMS)) == whole and whole.n == 20


def test_failures_for_good_are_left_out_and_counted() -> None:
    whole = engine().run(measure_reference(engine(), PROBLEMS[1:]))
    broken = world(lambda _, text: text.startswith("1 0\n"))
    reference = broken.run(measure_reference(broken, PROBLEMS))
    assert (reference.failed, reference.n) == (1, 19) and reference.large_cost == whole.large_cost


def test_no_reference_is_made_of_failures() -> None:
    down = world(lambda _, text: text.startswith("1"))
    with pytest.raises(
        BackendError, match="'large' could not be run on 10 of 20 problems, 3 times each: gone"
    ):
        down.run(measure_reference(down, PROBLEMS))


def test_both_ends_are_measured_and_what_cannot_be_trained_for_is_refused() -> None:
    ends = engine().run(measure_ends(engine(), PROBLEMS))
    assert (
        ends.small_cost == pytest.approx(ends.large_cost / 20, rel=0.01)
        and ends.small_accuracy < ends.large_accuracy
    )
    assert ends.scales == {}
    scaled = engine().run(measure_ends(engine(), PROBLEMS, ("position", "draft_worst")))
    longest = max(len(p.question.split()) + 1 for p in PROBLEMS)
    assert scaled == replace(ends, scales={"position": float(longest)})
    ends.check(None, "FLOPs")
    ends.check(0.051, "FLOPs")
    with pytest.raises(
        ConfigError, match=r"policy.budget: the cheapest model alone costs 0.0502 of large-only"
    ):
        ends.check(0.04, "FLOPs")
    counted = engine(cost=Tokens())
    with pytest.raises(ConfigError, match="cost: a problem costs .* tokens .* nothing to save in this unit"):
        counted.run(measure_ends(counted, PROBLEMS)).check(None, counted.cost.unit)
    with pytest.raises(ConfigError, match="nothing to save"):
        Reference(0.0, 0.5, 9).check(None, "dollars")
