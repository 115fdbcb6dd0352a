"""``stepwise scope import``: anchors and fingerprints from a table of results."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from stepwise.cli.options import Commands, positive
from stepwise.cli.scope_files import ONE_MODEL, add_action, counted, covered

if TYPE_CHECKING:
    from stepwise.engine.cost import Price
    from stepwise.scope import AnchorSet, Fingerprint
    from stepwise.scope.imported import TokenSource
    from stepwise.scope.table import Results


def add_parser(commands: Commands) -> None:
    summary = "choose anchors in a table of results and write the models' fingerprints"
    action = add_action(commands, "import", summary)
    action.add_argument("file", help="results as .csv, .jsonl, .json or .parquet, long or wide")
    action.add_argument(
        "--anchors", type=positive, default=250, help="how many anchors to choose (default: %(default)s)"
    )
    action.add_argument("--pair", help="a YAML file of models, whose list prices are written too")
    action.add_argument(
        "--seed", type=int, default=0, help="seed of the choice of anchors (default: %(default)s)"
    )
    action.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> None:
    """Read the table, write the folder, say what was left out.

    Raises:
        ConfigError: if the table cannot be used, or the folder not be written.
    """
    from stepwise.evaluation.provenance import writable
    from stepwise.models.files import list_prices
    from stepwise.scope import FingerprintStore
    from stepwise.scope.imported import anchors_of, fingerprints_of
    from stepwise.scope.scope import ANCHORS, FINGERPRINTS
    from stepwise.scope.table import read_results

    prices = list_prices(options.pair) if options.pair else {}
    results = read_results(options.file)
    anchors = anchors_of(results, options.anchors, seed=options.seed)
    fingerprints, sources = fingerprints_of(results, anchors, prices)
    folder = Path(writable(options.folder))
    replaced = " (in the place of what was there)" if (folder / ANCHORS).exists() else ""
    anchors.save(folder / ANCHORS)
    store = FingerprintStore(folder / FINGERPRINTS)
    store.add(*fingerprints)
    store.close()
    written = f"{counted(len(anchors), 'anchor')} and {counted(len(fingerprints), 'fingerprint')}"
    lines = (*_read(results), *_anchors(anchors, options.anchors), *_taken(fingerprints, sources, anchors))
    for line in (
        *lines,
        *_unknown(prices, results),
        *covered(anchors),
        f"wrote {written} to {folder}{replaced}",
    ):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _read(results: Results) -> Iterator[str]:
    """What the table was taken for."""
    from stepwise.scope.table import numbers

    sizes = f"{counted(len(results.outcomes), 'question')}, {counted(len(results.models), 'model')}"
    yield f"read {counted(results.rows, 'row')} ({results.layout}): {sizes}"
    columns = [f"{field}={column}" for field, column in results.columns.items()]
    if results.layout != "long":
        columns.append("one per model")
    unused = f"; not used: {', '.join(results.unused)}" if results.unused else ""
    yield f"columns: {', '.join(columns)}{unused}"
    for reason, rows in results.left_out.items():
        yield f"left out {counted(len(rows), 'row')}: {reason}: {numbers(rows, cells=results.refused)}"


def _unknown(prices: Mapping[str, Price], results: Results) -> Iterator[str]:
    """Models of the pair that the table does not have, as misspelt ones are."""
    if unknown := sorted(prices.keys() - set(results.models)):
        yield f"prices of models that the table does not have: {', '.join(unknown)}"


def _anchors(anchors: AnchorSet, asked: int) -> Iterator[str]:
    """Where there are fewer than were asked for, or too few."""
    from stepwise.scope.novelty import LEAST

    if len(anchors) < asked:
        few = counted(len(anchors), "question")
        yield f"anchors: {few}, all that half of the models have answered, and not {asked}"
    if len(anchors) < LEAST:
        yield f"With fewer than {LEAST} anchors estimates are guesses, and no question can be called outside."


def _taken(
    fingerprints: Sequence[Fingerprint], sources: Mapping[str, TokenSource], anchors: AnchorSet
) -> Iterator[str]:
    """What the fingerprints lack."""
    from stepwise.scope.scope import UNPRICED

    for source in sorted(set(sources.values()) - {"measured"}):
        yield f"tokens are {source}: {', '.join(model for model in sources if sources[model] == source)}"
    unpriced = [taken.model for taken in fingerprints if taken.price is None]
    if unpriced:
        yield f"no price, so `choose` will refuse {', '.join(unpriced)}; {UNPRICED}"
    few = [f"{t.model} ({len(t.anchor_ids)})" for t in fingerprints if 2 * len(t.anchor_ids) < len(anchors)]
    if few:
        yield f"too few of the {len(anchors)} anchors answered to be used: {', '.join(few)}"
    if len(fingerprints) == 1:
        yield ONE_MODEL
