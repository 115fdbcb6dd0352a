"""Pages that mkdocs builds from the repository: the command line's help, configurations, features, tutorials.

A tutorial is a program under examples/ in cells ("# %%"), prose in comments: the page is the program.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupytext

from stepwise.cli.main import parser
from stepwise.routers.features import GROUPS, table

ROOT = Path(__file__).parents[1]
TUTORIAL = re.compile(r"\A.*<!-- tutorial (\w+\.py) -->", re.S)
"""What stands before the mark is for readers of the checkout."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put what the repository says in place of the marks."""
    if "<!-- commands -->" in markdown:
        markdown = markdown.replace("<!-- commands -->", "\n".join(_commands(parser())))
    if "<!-- configurations -->" in markdown:
        markdown = markdown.replace("<!-- configurations -->", "\n".join(_configurations()))
    if "<!-- features -->" in markdown:
        markdown = markdown.replace("<!-- features -->", "\n\n".join(_features()))
    return TUTORIAL.sub(lambda mark: "\n\n".join(_tutorial(ROOT / "examples" / mark[1])), markdown)


def on_post_page(output: str, **_: Any) -> str:
    """The theme's search is a dialog without a name, which a screen reader cannot announce."""
    return output.replace('class="md-search" data-md', 'class="md-search" aria-label="Search" data-md')


def _commands(parser: argparse.ArgumentParser, depth: int = 2) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                command.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=96)
                yield f"{'#' * depth} {command.prog}\n"
                yield f"```text\n{command.format_help()}```\n"
                yield from _commands(command, depth + 1)


def _configurations() -> Iterator[str]:
    for file in sorted((ROOT / "configs").glob("*.yaml")):
        yield f"## configs/{file.name}\n"
        yield f"```yaml\n{file.read_text()}```\n"


def _features() -> Iterator[str]:
    for name, group in GROUPS.items():
        yield f"### Features `{name}`"
        yield table(feature.name for feature in group)


def _tutorial(file: Path) -> Iterator[str]:
    for cell in jupytext.read(file).cells:
        yield cell.source if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```"
    yield f"This page is the program `examples/{file.name}`: run it, change it."
