"""``stepwise fingerprint run | list | show | diff | import | export``: look at a store of fingerprints."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from stepwise.cli import fingerprint_run
from stepwise.cli.options import Commands
from stepwise.errors import ConfigError
from stepwise.evaluation.metrics import interval, paired_difference

if TYPE_CHECKING:
    from stepwise.scope import AnchorSet, Fingerprint, FingerprintStore

STORE = "outputs/fingerprints.db"


def add_parser(commands: Commands) -> None:
    """Register ``fingerprint`` and its own commands."""
    parser = commands.add_parser(
        "fingerprint", help="take, list, show, compare, import and export fingerprints"
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    fingerprint_run.add_parser(actions, STORE)
    for name, summary, arguments in (
        ("list", "every model: anchors, accuracy, tokens, price", []),
        ("show", "one model, anchor by anchor", ["model"]),
        ("diff", "two models on the anchors that both have answered", ["model", "other"]),
        ("import", "add the fingerprints of a .jsonl or .parquet file", ["file"]),
        ("export", "write all fingerprints to a .jsonl or .parquet file", ["file"]),
    ):
        action = actions.add_parser(name, help=summary, description=summary)
        for argument in arguments:
            action.add_argument(argument)
        action.add_argument("--store", default=STORE, help="the store (default: %(default)s)")
        action.add_argument(
            "--anchors",
            help="anchors.json: shows the questions, and marks fingerprints taken on other anchors",
        )
        action.set_defaults(run=run, action=ACTIONS[name])


def run(options: argparse.Namespace, console: Console) -> None:
    """Open the store and run the action on it.

    Raises:
        ConfigError: if the store or the anchors cannot be read, or a model has no fingerprint.
    """
    from stepwise.scope import AnchorSet, FingerprintStore

    store = FingerprintStore(options.store, create=options.action is _import)
    anchors = AnchorSet.load(options.anchors) if options.anchors else None
    options.action(store, anchors, options, console)


def _list(
    store: FingerprintStore, anchors: AnchorSet | None, options: argparse.Namespace, console: Console
) -> None:
    if not len(store):
        console.print(f"{options.store} is empty; `stepwise fingerprint run` takes fingerprints.")
        return
    table = Table("model", "anchors", "right (95%)", "tokens", "price in/out", "sampling", "state")
    for fingerprint in store:
        stale = fingerprint.stale(anchors=anchors.digest) if anchors else []
        state = "other anchors" if stale else "tokens estimated" if fingerprint.estimated else ""
        price = fingerprint.price
        table.add_row(
            fingerprint.model,
            str(len(fingerprint.anchor_ids)),
            _accuracy(fingerprint.correct),
            _mean_tokens(fingerprint),
            f"{price.input:.4g} / {price.output:.4g}" if price else "none",
            fingerprint.sampling,
            state,
        )
    console.print(table)


def _show(
    store: FingerprintStore, anchors: AnchorSet | None, options: argparse.Namespace, console: Console
) -> None:
    fingerprint = store.get(options.model, anchors.digest if anchors else None)
    accuracy, tokens = _accuracy(fingerprint.correct), _mean_tokens(fingerprint)
    console.print(
        f"{fingerprint.model}: {accuracy} right, {tokens} tokens, {len(fingerprint.anchor_ids)} anchors"
    )
    for name in ("revision", "prompt", "sampling", "anchors"):
        console.print(f"  {name}: {getattr(fingerprint, name) or 'unknown'}", markup=False)
    table = Table("anchor", "right", "tokens", *fingerprint.scores, "question")
    texts = {problem.id: problem.question for problem in anchors} if anchors else {}
    columns = (fingerprint.anchor_ids, fingerprint.correct, fingerprint.tokens, *fingerprint.scores.values())
    for anchor, right, count, *scores in zip(*columns, strict=True):
        shown = [f"{score:.2f}" for score in scores]
        table.add_row(anchor, f"{right:g}", f"{count:g}", *shown, texts.get(anchor, "")[:80])
    console.print(table)


def _diff(
    store: FingerprintStore, anchors: AnchorSet | None, options: argparse.Namespace, console: Console
) -> None:
    digest = anchors.digest if anchors else None
    first, second = store.get(options.model, digest), store.get(options.other, digest)
    answered = set(second.anchor_ids)
    shared = [anchor for anchor in first.anchor_ids if anchor in answered]
    if not shared:
        raise ConfigError(f"models {first.model!r} and {second.model!r} have no anchor in common.")
    console.print(f"{first.model} minus {second.model} on {len(shared)} anchors")
    right = [_on(shared, fingerprint, fingerprint.correct) for fingerprint in (first, second)]
    tokens = [_on(shared, fingerprint, fingerprint.tokens) for fingerprint in (first, second)]
    for name, (a, b), scale, unit in (("right", right, 100.0, " points"), ("tokens", tokens, 1.0, "")):
        mean, low, high = paired_difference(a, b)
        console.print(f"  {name}: {scale * mean:+.1f}{unit} (95% {scale * low:+.1f} to {scale * high:+.1f})")
    better = sum(x > y for x, y in zip(*right, strict=True))
    worse = sum(x < y for x, y in zip(*right, strict=True))
    console.print(f"  better on {better}, worse on {worse}")


def _on(anchors: Sequence[str], fingerprint: Fingerprint, values: Sequence[float]) -> list[float]:
    """Values of these anchors, in their order."""
    by_anchor = dict(zip(fingerprint.anchor_ids, values, strict=True))
    return [by_anchor[anchor] for anchor in anchors]


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


def _accuracy(correct: Sequence[float]) -> str:
    low, high = interval(correct)
    return f"{sum(correct) / len(correct):.1%} ({low:.1%} to {high:.1%})"


def _mean_tokens(fingerprint: Fingerprint) -> str:
    return f"{sum(fingerprint.tokens) / len(fingerprint.tokens):.0f}"
