"""The files that ``stepwise scope`` writes and reads."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from stepwise.cli.options import Commands

if TYPE_CHECKING:
    from stepwise.scope import Scope
    from stepwise.types import Estimate

FOLDER = "outputs/scope"
ANCHORS, FINGERPRINTS = "anchors.json", "fingerprints.db"


def add_action(commands: Commands, name: str, summary: str) -> argparse.ArgumentParser:
    """A command on a folder of anchors and fingerprints."""
    action = commands.add_parser(name, help=summary, description=summary)
    action.add_argument(
        "--folder", default=FOLDER, help=f"of {ANCHORS} and {FINGERPRINTS} (default: %(default)s)"
    )
    return action


def add_pool(action: argparse.ArgumentParser) -> None:
    """Which models of the folder, and how they are compared."""
    add = action.add_argument
    add("--models", nargs="+", metavar="MODEL", help="some of the models (default: all)")
    add("--pair", help="a YAML file of models: their list prices count")
    add(
        "--outside", default="best", metavar="RULE",
        help="who answers what the anchors do not cover: best (the best single model), estimates, or a "
        "model's name (default: %(default)s)",
    )  # fmt: skip


def open_folder(options: argparse.Namespace) -> Scope:
    """The scope over a folder's files.

    Raises:
        ConfigError: if one is missing or cannot be read.
    """
    from stepwise.scope.routers import open_scope

    folder = Path(options.folder)
    return open_scope(
        str(folder / ANCHORS), str(folder / FINGERPRINTS), pair=options.pair, outside=options.outside
    )


def shown(estimate: Estimate) -> tuple[str, str, str, str]:
    """Cells of a table: model, chance, tokens, cost."""
    between = estimate.p_interval
    chance = f"{estimate.p_correct:.0%}" + (f" ({between[0]:.0%} to {between[1]:.0%})" if between else "")
    tokens = f"{estimate.tokens:.0f} ({estimate.interval[0]:.0f} to {estimate.interval[1]:.0f})"
    return estimate.model, chance, tokens, "unknown" if estimate.cost is None else f"{estimate.cost:.3g}"
