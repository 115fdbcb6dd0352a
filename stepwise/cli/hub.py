"""``stepwise push`` and ``stepwise pull``: share a policy, a recording, or fingerprints."""

from __future__ import annotations

import argparse

from rich.console import Console

from stepwise.cli.options import Commands


def add_parser(commands: Commands) -> None:
    """Register both commands."""
    summary = "check a policy, a recording or fingerprints, write a card, and copy all to a folder or the hub"
    command = commands.add_parser("push", help=summary, description=summary)
    command.add_argument("folder", help="what to share")
    command.add_argument("place", help="a folder, or hf://OWNER/NAME")
    command.add_argument("--private", action="store_true", help="make the repository private, if it is new")
    command.set_defaults(run=_push)
    summary = "bring a policy, a recording or fingerprints here, from a folder or the hub"
    command = commands.add_parser("pull", help=summary, description=summary)
    command.add_argument("place", help="a folder, or hf://OWNER/NAME")
    command.add_argument("folder", help="where to put it: a folder that is not there yet")
    command.add_argument("--revision", help="a branch, a tag or a commit of the hub's repository")
    command.set_defaults(run=_pull)


def _push(options: argparse.Namespace, console: Console) -> None:
    from stepwise.hub import push

    place = push(options.folder, options.place, private=options.private)
    console.print(f"pushed to {place}", markup=False, soft_wrap=True)


def _pull(options: argparse.Namespace, console: Console) -> None:
    from stepwise.hub import pull

    kind = pull(options.place, options.folder, revision=options.revision)
    console.print(f"{kind.name} in {options.folder}", markup=False, soft_wrap=True)
