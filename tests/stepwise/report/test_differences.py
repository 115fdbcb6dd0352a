"""Differences are one table: a line a pair of routers, shares in points."""

from __future__ import annotations

import io

from rich.console import Console

from stepwise.evaluation.summary import Difference
from stepwise.report.differences import difference_tables


def test_a_table_a_router_and_a_line_a_quantity() -> None:
    at = "accuracy at 35% of large-only cost"
    lines = [
        Difference("ppo", "mean_confidence", at, 0.1312, [-0.004, 0.1705]),
        Difference("ppo", "mean_confidence", "APGR", 0.1234, [0.05, 0.2]),
        Difference("ppo", "confidence", "APGR", None, [None, None]),
        Difference("query", "random", "APGR", -0.1, [-0.2, 0.0]),
    ]
    shown = io.StringIO()
    console = Console(file=shown, width=80)
    first, second = difference_tables(lines)
    console.print(first)
    cells = [[cell.strip() for cell in line.split("│")] for line in shown.getvalue().splitlines()]
    assert "ppo less others" in cells[0][0] and "accuracy in points" in cells[0][0]
    assert [line for line in cells if len(line) == 3] == [
        ["mean_confidence", at, "+13.1 (-0.4 to +17.1)"],
        ["", "APGR", "+0.123 (+0.050 to +0.200)"],
        ["confidence", "APGR", "–"],
    ]
    assert str(second.title).startswith("query less")
