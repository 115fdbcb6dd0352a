"""Differences are one table: a line a pair of routers, shares in points."""

from __future__ import annotations

import io

from rich.console import Console

from stepwise.evaluation.summary import Difference
from stepwise.report.differences import difference_table


def test_a_line_a_pair_and_a_column_a_quantity() -> None:
    at = "accuracy at 35% of large-only cost"
    lines = [
        Difference("ppo", "random", at, 0.0312, [-0.004, 0.07]),
        Difference("ppo", "random", "APGR", 0.1234, [0.05, 0.2]),
        Difference("ppo", "confidence", "APGR", None, [None, None]),
    ]
    shown = io.StringIO()
    Console(file=shown, width=120).print(difference_table(lines))
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.getvalue().splitlines()]
    assert f"{at} (points)" in shown.getvalue()
    assert [line for line in cells if line] == [
        ["ppo", "random", "+3.1", "+0.123"],
        ["", "", "-0.4 to +7.0", "+0.050 to +0.200"],
        ["ppo", "confidence", "–", "–"],
    ]
