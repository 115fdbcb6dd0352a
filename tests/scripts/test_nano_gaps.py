"""The gaps that are kept beside the code are those that are counted."""

from __future__ import annotations

from itertools import islice

import pytest

from scripts.nano.gaps import PROBLEMS, gaps
from stepwise.data.nano.gaps import known_gaps
from stepwise.data.nano.problems import SPLITS


@pytest.mark.parametrize("split", SPLITS)
def test_the_first_are_those_that_are_counted(split: str) -> None:
    assert [tuple(gap) for gap in islice(known_gaps(split), 5)] == list(islice(gaps(split), 5))


@pytest.mark.long
@pytest.mark.parametrize(("split", "n"), PROBLEMS.items())
def test_all_are_those_that_are_counted(split: str, n: int) -> None:
    assert [tuple(gap) for gap in known_gaps(split)] == list(islice(gaps(split), n))
