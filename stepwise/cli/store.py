"""``stepwise store``: completions that have been paid for, moved between a file and a server."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from stepwise.cli.options import Commands
from stepwise.errors import ConfigError
from stepwise.store.opening import on_server, open_store

ADDRESS = "a file, or redis://HOST:PORT/0"


def add_parser(commands: Commands) -> None:
    command = commands.add_parser("store", help="copy a step store between a file and a Redis server")
    actions = command.add_subparsers(required=True, metavar="ACTION")
    copying = actions.add_parser("copy", help="copy every completion that the other store does not have")
    copying.add_argument("source", metavar="FROM", help=ADDRESS)
    copying.add_argument("target", metavar="TO", help=ADDRESS)
    copying.set_defaults(run=copy)


def copy(options: argparse.Namespace, console: Console) -> None:
    """Copy a store into another one; what is there already stays.

    Raises:
        ConfigError: if a store cannot be opened, or there is none to copy from.
        BackendError: if a server fails on the way; the same command then copies the rest.
    """
    if not on_server(options.source) and not Path(options.source).is_file():
        raise ConfigError(f"source: there is no store {options.source!r}.")
    source, target = open_store(options.source), open_store(options.target)
    seen = new = 0
    for page in source.pages():
        seen += len(page)
        new += target.put_many(page)
    source.close()
    target.close()
    console.print(f"{new} of {seen} completions copied, {seen - new} were there already")
