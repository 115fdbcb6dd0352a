"""``stepwise fingerprint list | show | diff | import | export``: look at a store of fingerprints."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console
from rich.table import Table

from stepwise.errors import ConfigError
from stepwise.evaluation.metrics import interval, paired_difference
from stepwise.scope.anchors import AnchorSet
from stepwise.scope.fingerprint import Fingerprint
from stepwise.scope.store import FingerprintStore

STORE = "outputs/fingerprints.db"


def add_parser(commands: Any) -> None:
    """Register ``fingerprint`` and its own commands."""
    parser = commands.add_parser("fingerprint", help="list, show, compare, import and export fingerprints")
    own = parser.add_subparsers(required=True, metavar="ACTION")
    for name, told, extra in (
        ("list", "every model: anchors, how often it is right, tokens, price", []),
        ("show", "one model, anchor by anchor", ["model"]),
        ("diff", "two models on the anchors that both have answered", ["model", "other"]),
        ("import", "add the fingerprints of a .jsonl or .parquet file", ["file"]),
        ("export", "write all to a .jsonl or .parquet file", ["file"]),
    ):
        action = own.add_parser(name, help=told, description=told)
        for argument in extra:
            action.add_argument(argument)
        action.add_argument("--store", default=STORE, help="the store (default: %(default)s)")
        action.add_argument(
            "--anchors", help="anchors.json: shows questions, and marks what was taken on others"
        )
        action.set_defaults(run=_run, action=ACTIONS[name])


def _run(options: argparse.Namespace, console: Console) -> None:
    store = FingerprintStore(options.store)
    anchors = AnchorSet.load(options.anchors) if options.anchors else None
    options.action(store, anchors, options, console)


def _list(
    store: FingerprintStore, anchors: AnchorSet | None, options: argparse.Namespace, console: Console
) -> None:
    if not len(store):
        console.print(f"{options.store} holds no fingerprints; `python -m scripts.fingerprint` takes them.")
        return
    table = Table("model", "anchors", "right (95%)", "tokens", "price in/out", "sampling", "state")
    for one in (store.get(model) for model in store.models):
        stale = one.stale(anchors=anchors.digest) if anchors else []
        state = "other anchors" if stale else "tokens estimated" if one.estimated else ""
        price = f"{one.price.input:.4g} / {one.price.output:.4g}" if one.price else "none"
        table.add_row(
            one.model, str(len(one.anchor_ids)), _share(one.correct), _mean(one), price, one.sampling, state
        )
    console.print(table)


def _show(
    store: FingerprintStore, anchors: AnchorSet | None, options: argparse.Namespace, console: Console
) -> None:
    one = store.get(options.model)
    told = (
        ("revision", one.revision),
        ("prompt", one.prompt),
        ("sampling", one.sampling),
        ("anchors", one.anchors),
    )
    console.print(
        f"{one.model}: {_share(one.correct)} right, {_mean(one)} tokens, {len(one.anchor_ids)} anchors"
    )
    for name, value in told:
        console.print(f"  {name}: {value or 'unknown'}", markup=False)
    table = Table("anchor", "right", "tokens", *one.scores, "question")
    texts = {problem.id: problem.question for problem in anchors} if anchors else {}
    columns = zip(one.anchor_ids, one.correct, one.tokens, *one.scores.values(), strict=True)
    for anchor, right, tokens, *scores in columns:
        shown = [f"{score:.2f}" for score in scores]
        table.add_row(anchor, f"{right:g}", f"{tokens:g}", *shown, texts.get(anchor, "")[:80])
    console.print(table)


def _diff(
    store: FingerprintStore, anchors: AnchorSet | None, options: argparse.Namespace, console: Console
) -> None:
    one, two = store.get(options.model), store.get(options.other)
    places = [{anchor: i for i, anchor in enumerate(side.anchor_ids)} for side in (one, two)]
    shared = [anchor for anchor in one.anchor_ids if anchor in places[1]]
    if not shared:
        raise ConfigError(f"models {one.model!r} and {two.model!r} have no anchor in common.")
    a, b = (
        [(side.correct[place[anchor]], side.tokens[place[anchor]]) for anchor in shared]
        for side, place in ((one, places[0]), (two, places[1]))
    )
    console.print(f"{one.model} minus {two.model} on {len(shared)} anchors")
    for name, column, unit in (("right", 0, 100.0), ("tokens", 1, 1.0)):
        mean, low, high = paired_difference([x[column] for x in a], [x[column] for x in b])
        suffix = " points" if column == 0 else ""
        console.print(f"  {name}: {unit * mean:+.1f}{suffix} (95% {unit * low:+.1f} to {unit * high:+.1f})")
    only = [sum(x[0] > y[0] for x, y in zip(p, q, strict=True)) for p, q in ((a, b), (b, a))]
    console.print(f"  better on {only[0]}, worse on {only[1]}")


def _import(
    store: FingerprintStore, anchors: AnchorSet | None, options: argparse.Namespace, console: Console
) -> None:
    console.print(f"added {', '.join(store.load(options.file))} to {options.store}")


def _export(
    store: FingerprintStore, anchors: AnchorSet | None, options: argparse.Namespace, console: Console
) -> None:
    store.export(options.file)
    console.print(f"wrote {len(store)} fingerprints to {options.file}")


ACTIONS = {"list": _list, "show": _show, "diff": _diff, "import": _import, "export": _export}


def _share(values: Any) -> str:
    low, high = interval(values)
    return f"{sum(values) / len(values):.1%} ({low:.1%} to {high:.1%})"


def _mean(one: Fingerprint) -> str:
    return f"{sum(one.tokens) / len(one.tokens):.0f}"
