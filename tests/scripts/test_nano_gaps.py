"""The gaps that are kept beside the code are those that are counted."""

from __future__ import annotations

from itertools import islice

import pytest

from scripts.nano.gaps import PROBLEMS, gaps
from stepwise.data.nano.gaps import known_gaps
from stepwise.data.nano.problems import SPLITS


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("n", [5, pytest.param(PROBLEMS, marks=pytest.mark.long)])
def test_they_are_those_that_are_counted(split: str, n: int) -> None:
    assert [tuple(gap) for gap in islice(known_gaps(split), n)] == list(islice(gaps(split), n))
