"""What a decision log says, as a table in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from stepwise.evaluation.logged import estimators
from stepwise.evaluation.logged.chains import LoggedChain
from stepwise.evaluation.logged.estimators import Evidence, Value
from stepwise.evaluation.logged.shadow import Shadowed, shadowed
from stepwise.evaluation.logged.weighed import Weighed, usable, weigh
from stepwise.types import Router

ASIDE = "without all their decisions, or with another writer than the one that was drawn"


def show_log(chains: Sequence[LoggedChain], router: Router | None, console: Console) -> None:
    """A shadow's log beside its router, or what another router would have reached.

    Args:
        router: None for the one that is logged, in a shadow.

    Raises:
        ConfigError: if the log says nothing of it.
    """
    kept = usable(chains)
    _say(f"{len(kept)} chains; {len(chains) - len(kept)} more are left aside, {ASIDE}.", console)
    if router is None or (kept and kept[0].shadow):
        _show_shadow(shadowed(kept, router), kept, console)
    else:
        _show_estimates(kept, router, console)


def _show_shadow(beside: Shadowed, chains: Sequence[LoggedChain], console: Console) -> None:
    saved = 1 - beside.share.value
    low, high = (1 - share for share in reversed(beside.share.interval))
    _say(
        f"{chains[0].shadow} answered for {beside.cost:.4g} {chains[0].unit} a chain. Had every chain "
        f"stayed as it is, the router would have saved {saved:.1%} of that ({low:.1%} to {high:.1%}).",
        console,
    )
    _say(
        f"It hands {beside.handed:.1%} of the steps to another model, and none in {beside.agreed:.1%} of the "
        "chains.",
        console,
    )
    if beside.accuracy is None:
        _say("No answer has been judged.", console)
    else:
        low, high = beside.accuracy
        _say(f"Its accuracy lies between {low:.1%} and {high:.1%}: the others' answers are unknown.", console)


def _show_estimates(chains: Sequence[LoggedChain], router: Router, console: Console) -> None:
    table = Table(
        title=f"{router.name} from the log of {chains[0].router} (cost of large-only = 100%; 95% intervals)"
    )
    for name in ("router", "", "effective chains", "estimator", "estimate"):
        table.add_column(name)
    silent = []
    for name, exploring in ((router.name, False), (f"{router.name}, as many drawn", True)):
        weighed = weigh(chains, router, exploring=exploring)
        judged = weighed.rows(~np.isnan(weighed.correct))
        silent += [
            *_add(table, (name, "cost"), weighed, estimators.cost),
            *_add(table, (name, "accuracy"), judged, estimators.accuracy),
        ]
    console.print(table)
    for sentence in silent:
        _say(sentence, console)
    logged = sum(chain.cost for chain in chains) / sum(chain.alone for chain in chains)
    correct = f"{judged.correct.mean():.1%}" if len(judged) else "unknown"
    _say(f"As logged: cost {logged:.1%}, accuracy {correct}, {len(judged)} answers judged.", console)


def _add(
    table: Table,
    name: tuple[str, str],
    weighed: Weighed,
    estimate: Callable[[Weighed], Mapping[str, Value]],
) -> list[str]:
    """The rows of a quantity; why there are none, where nothing can be said."""
    known = estimators.evidence(weighed) if len(weighed) else Evidence(0, 0.0, 0.0)
    effective = f"{known.effective:.0f} of {known.chains}"
    if known.silent:
        table.add_row(*name, effective, "cannot say", "")
        return [f"The log cannot say the {name[1]} of {name[0]}: {known.silent}."]
    for estimator, value in estimate(weighed).items():
        table.add_row(*name, effective, estimator, _interval(value))
    return []


def _interval(value: Value) -> str:
    low, high = value.interval
    return f"{value.value:.1%} ({low:.1%} to {high:.1%})"


def _say(text: str, console: Console) -> None:
    console.print(text, highlight=False)
