"""The files that ``stepwise scope`` writes and reads."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from stepwise.cli.options import Commands
from stepwise.cli.terminal import plain

if TYPE_CHECKING:
    from stepwise.scope import AnchorSet, Scope
    from stepwise.types import Estimate

FOLDER = "outputs/scope"
MANY = 0.1
"""Share of a table's own questions outside the anchors from which on it is worth a warning."""
ONE_MODEL = "There is one model only, so there is nothing to choose: it answers everything."


def add_action(commands: Commands, name: str, summary: str) -> argparse.ArgumentParser:
    """A command on a folder of anchors and fingerprints."""
    action = commands.add_parser(name, help=summary, description=summary)
    action.add_argument(
        "--folder", default=FOLDER,
        help="where anchors.json and fingerprints.db are (default: %(default)s)",
    )  # fmt: skip
    return action


def add_pool(action: argparse.ArgumentParser) -> None:
    """Which models of the folder, and how they are compared."""
    add = action.add_argument
    add("--models", nargs="+", metavar="MODEL", help="some of the models (default: all)")
    add("--pair", help="a YAML file of models, whose list prices are used")
    add(
        "--outside", default="best", metavar="RULE",
        help="who answers a question unlike the anchors: best (the best single model, within the budget if "
        "there is one), estimates (whoever they favour), or a model's name (default: %(default)s)",
    )  # fmt: skip


def open_folder(options: argparse.Namespace) -> Scope:
    """The scope over a folder's files.

    Raises:
        ConfigError: if one is missing or cannot be read.
    """
    from stepwise.scope import Scope

    return Scope.open(options.folder, pair=options.pair, outside=options.outside)


def counted(count: int, noun: str) -> str:
    """A number of things, in words: 1 model, 2 models."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def dollars(amount: float) -> str:
    """To two significant digits, without an exponent: $0.00042, $3.10, $12,000."""
    digits = 1 - math.floor(math.log10(amount)) if amount > 0 else 0
    return f"${amount:,.{max(digits, 2) if amount < 1000 else 0}f}"


def covered(anchors: AnchorSet) -> Iterator[str]:
    """How many of the table's other questions the anchors do not cover, where the import looked."""
    from stepwise.scope.imported import OUTSIDE_SHARE

    share = anchors.provenance.get(OUTSIDE_SHARE)
    if share is None:
        return
    yield f"unlike the anchors: {share:.1%} of the table's other questions"
    if share > MANY:
        yield "That is many (about 2% is usual): for these --outside decides. More --anchors cover more."


def nearest(scope: Scope, question: str) -> str:
    """The anchor nearest to a question, and how far estimates are believed where that is rather far."""
    from stepwise.scope.novelty import trust

    at = int(scope.compare([question]).similarity[0].argmax())
    text = f"The nearest anchor is {plain(scope.anchors.questions[at])[:200]!r}."
    believed = float(trust(scope.novelty([question]))[0])
    if not 0 < believed < 1:
        return text
    return f"{text} That is rather far: estimates count {believed:.0%}, the models' own means the rest."


def shown(estimate: Estimate) -> tuple[str, str, str, str]:
    """Cells of a table: model, chance, tokens, cost."""
    between = estimate.p_interval
    chance = f"{estimate.p_correct:.0%}" + (f" ({between[0]:.0%} to {between[1]:.0%})" if between else "")
    tokens = f"{estimate.tokens:.0f} ({estimate.interval[0]:.0f} to {estimate.interval[1]:.0f})"
    return estimate.model, chance, tokens, "unknown" if estimate.cost is None else dollars(estimate.cost)
