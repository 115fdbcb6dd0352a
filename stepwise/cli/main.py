"""The command line: one file a command; a command's libraries are imported when it runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from rich.console import Console

from stepwise import __version__
from stepwise.cli import (
    bench,
    chat,
    demo,
    doctor,
    fingerprint,
    hub,
    init,
    models,
    report,
    scope,
    serve,
    solve,
    store,
)
from stepwise.cli.terminal import plain
from stepwise.errors import StepwiseError

COMMANDS = (demo, init, solve, chat, serve, report, bench, fingerprint, scope, store, models, hub, doctor)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, and takes no option for another one; commands inherit it."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**{**given, "allow_abbrev": False})

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """Refuses what is left over itself: the command's own parser knows which help is meant."""
        options, left = super().parse_known_args(args, namespace)
        if left:
            hint = "" if left[0].startswith("-") else " (a text of several words needs quotes)"
            self.error(f"unrecognized arguments: {' '.join(left)}{hint}")
        return options, []

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"stepwise: {plain(message)}; see `{self.prog} --help`.\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code. Bad input is one sentence and code 2."""
    options = parser().parse_args(arguments)
    console = Console()
    try:
        return int(options.run(options, console) or 0)
    except StepwiseError as error:
        print(f"stepwise: {plain(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stepwise: interrupted; the same command continues where it stopped.", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """What the command line takes."""
    whole = Parser(prog="stepwise", description=sys.modules["stepwise"].__doc__)
    whole.formatter_class = argparse.RawDescriptionHelpFormatter
    whole.add_argument("--version", action="version", version=f"stepwise {__version__}")
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    return whole
