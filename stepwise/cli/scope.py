"""``stepwise scope import | estimate | choose | report | experiments``: from a table to a routed answer."""

from __future__ import annotations

from stepwise.cli import scope_choose, scope_estimate, scope_experiments, scope_import, scope_report
from stepwise.cli.options import Commands

ACTIONS = (scope_import, scope_estimate, scope_choose, scope_report, scope_experiments)


def add_parser(commands: Commands) -> None:
    """Register ``scope`` and its own commands."""
    parser = commands.add_parser("scope", help="know before you run: which model will be right, at what cost")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    for action in ACTIONS:
        action.add_parser(actions)
