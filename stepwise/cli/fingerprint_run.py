"""``stepwise fingerprint run``: let every model of a pair answer the anchors once, alone."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress

from stepwise.backends.options import known_backends
from stepwise.cli.options import Commands, positive
from stepwise.models.overrides import with_options
from stepwise.models.pair import DEFAULT_BACKEND

if TYPE_CHECKING:
    from stepwise.models.model import Model
    from stepwise.models.pair import Pair
    from stepwise.scope import AnchorSet, Fingerprint

ANCHORS = "outputs/fingerprint/anchors.json"


def add_parser(actions: Commands, store: str) -> None:
    summary = "let every model of a pair answer the anchors once, alone"
    action = actions.add_parser("run", help=summary, description=summary)
    add = action.add_argument
    add("--pair", default="nano", help="'nano', or a YAML file of models (default: nano)")
    add("--models", nargs="+", metavar="MODEL", help="some of the pair (default: all)")
    add(
        "--anchors", default=ANCHORS,
        help="anchors.json; where there is none yet, 250 of nano's training problems are written there "
        "(default: %(default)s)",
    )  # fmt: skip
    add("--store", default=store, help="of the fingerprints (default: %(default)s)")
    add("--completions", default="outputs/steps.db", help="seen before, kept (default: %(default)s)")
    add("--cost", choices=("flops", "dollars"), default="flops", help="unit of prices (default: flops)")
    add("--temperature", type=float, default=0.0, help="of the answers; 0 is greedy (default)")
    add("--seed", type=int, default=0, help="of the answers (default: %(default)s)")
    add("--concurrency", type=positive, default=128, help="anchors in flight (default: %(default)s)")
    add(
        "--backend",
        help=f"for models that name none: {', '.join(known_backends())} (default: {DEFAULT_BACKEND})",
    )  # fmt: skip
    add(
        "--backend-option",
        action="append",
        default=[],
        metavar="[MODEL.]OPTION=VALUE",
        help="of that backend",
    )
    action.set_defaults(run=run)


def run(options: argparse.Namespace, console: Console) -> None:
    """Ask every model that has no fingerprint as it is now; a killed run goes on where it stopped.

    Raises:
        ConfigError: if a file, a model or a price cannot be used; before anything is asked.
        BackendError: if an anchor could not be answered.
    """
    from stepwise.models.files import load_pair
    from stepwise.scope import FingerprintStore
    from stepwise.scope.taking import changed, described, identity, price_of

    pair, options.backend = with_options(load_pair(options.pair), options.backend, options.backend_option)
    chosen = pair.select(options.models or [model.name for model in pair.models])
    for model in chosen:
        price_of(model, options.cost)
    anchors = _anchors(options.anchors, console)
    store = FingerprintStore(options.store)
    for model in chosen:
        about = identity(model, pair, anchors, options.temperature, options.seed)
        stale = changed(store, model.name, about)
        if stale == []:
            console.print(f"{model.name}: its fingerprint is up to date")
            continue
        if stale:
            console.print(f"{model.name}: {', '.join(stale)} changed, its fingerprint is taken again")
        taken = _take(model, pair, anchors, about, options, console)
        store.add(taken)
        console.print(described(taken), highlight=False)
    console.print(f"fingerprints in {options.store}; `stepwise fingerprint list` shows them")


def _anchors(path: str, console: Console) -> AnchorSet:
    from stepwise import load_dataset
    from stepwise.scope import AnchorSet, choose_anchors

    if path == ANCHORS and not Path(path).exists():
        problems = load_dataset("nano", split="train", limit=2000)
        chosen = choose_anchors(problems, 250, provenance={"dataset": "nano", "split": "train"})
        chosen.save(path)
        console.print(f"wrote {len(chosen)} anchors of nano to {path}")
    return AnchorSet.load(path)


def _take(
    model: Model,
    pair: Pair,
    anchors: AnchorSet,
    about: dict[str, str],
    options: argparse.Namespace,
    console: Console,
) -> Fingerprint:
    from stepwise.engine.concurrency import run as wait
    from stepwise.scope.taking import answer, price_of, summarise
    from stepwise.store.opening import open_store

    engine = pair.engine(
        backend=options.backend, models=[model.name], cost="tokens", store=open_store(options.completions),
        temperature=options.temperature, seed=options.seed,
    )  # fmt: skip
    with Progress(console=console) as progress:
        task = progress.add_task(model.name, total=len(anchors))
        traces = wait(
            answer(engine.attempt, model.name, anchors, options.concurrency, lambda: progress.advance(task))
        )
    wait(engine.close())
    return summarise(model.name, traces, price_of(model, options.cost), about)
