"""``stepwise scope import``: anchors and fingerprints from a table of results."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from stepwise.cli.options import Commands, positive
from stepwise.cli.scope_files import ANCHORS, FINGERPRINTS, add_action


def add_parser(commands: Commands) -> None:
    summary = "choose anchors in a table of results and write the models' fingerprints"
    action = add_action(commands, "import", summary)
    action.add_argument("file", help="results as .csv, .jsonl, .json or .parquet, long or wide")
    action.add_argument("--anchors", type=positive, default=250, help="how many (default: %(default)s)")
    action.add_argument("--pair", help="a YAML file of models: their list prices are written too")
    action.add_argument("--seed", type=int, default=0, help="of the choice (default: %(default)s)")
    action.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> None:
    """Read the table, write the folder, say what was left out.

    Raises:
        ConfigError: if the table cannot be used, or the folder not be written.
    """
    from stepwise.evaluation.provenance import writable
    from stepwise.models.files import load_pair
    from stepwise.scope import FingerprintStore
    from stepwise.scope.imported import anchors_of, fingerprints_of
    from stepwise.scope.table import numbers, read_results

    prices = {m.name: m.price for m in load_pair(options.pair).models if m.price} if options.pair else {}
    results = read_results(options.file)
    anchors = anchors_of(results, options.anchors, seed=options.seed)
    fingerprints, sources = fingerprints_of(results, anchors, prices)
    folder = Path(writable(options.folder))
    anchors.save(folder / ANCHORS)
    store = FingerprintStore(folder / FINGERPRINTS)
    store.add(*fingerprints)
    store.close()

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    say(f"read {results.rows} rows ({results.layout}): {len(results.outcomes)} questions, "
        f"{len(results.models)} models")  # fmt: skip
    for reason, rows in results.left_out.items():
        say(f"left out {len(rows)} {'row' if len(rows) == 1 else 'rows'}, {reason}: {numbers(rows)}")
    for source in sorted(set(sources.values()) - {"measured"}):
        say(f"tokens are {source}: {', '.join(model for model in sources if sources[model] == source)}")
    unpriced = [taken.model for taken in fingerprints if taken.price is None]
    if unpriced:
        say(f"no price, so that `choose` needs --pair: {', '.join(unpriced)}")
    few = [f"{t.model} ({len(t.anchor_ids)})" for t in fingerprints if 2 * len(t.anchor_ids) < len(anchors)]
    if few:
        say(f"too few of the {len(anchors)} anchors answered to be used: {', '.join(few)}")
    say(f"wrote {len(anchors)} anchors and {len(fingerprints)} fingerprints to {folder}")
