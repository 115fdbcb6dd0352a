"""What clients, in their defaults, make of a gateway: a table.

    python -m scripts.checks.clients --bare http://127.0.0.1:8700/v1 --chat http://127.0.0.1:8701/v1
    PYTHON_OF_CLIENTS scripts/checks/clients ...          # the same, in an environment of their own

``--bare`` is a gateway over models that take bare questions (nano), ``--chat`` one over chat models. Clients
that are not installed are left out; ``--node`` names a folder with the npm packages ``openai``, ``ai``,
``@ai-sdk/openai`` and ``zod``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path
from typing import NamedTuple

if __package__:
    from scripts.checks.clients.python import CLIENTS
else:  # run as a folder, where there is no stepwise
    from python import CLIENTS  # type: ignore[import-not-found, no-redef]


class Result(NamedTuple):
    """One thing that a client tried, against bare or chat models, and what went wrong, '' if nothing."""

    client: str
    version: str
    kind: str
    what: str
    wrong: str


def python_results(urls: dict[str, str]) -> Iterator[Result]:
    for client, checks in CLIENTS.items():
        try:
            installed = version(client)
        except PackageNotFoundError:
            continue
        for kind, url in urls.items():
            for what, run in checks(url, kind == "chat"):
                try:
                    run()
                except Exception as error:
                    wrong = f"{type(error).__name__}: {error}"[:300]
                else:
                    wrong = ""
                yield Result(client, installed, kind, what, wrong)


def node_results(urls: dict[str, str], folder: Path) -> Iterator[Result]:
    program = Path(__file__).with_name("node.mjs").resolve()
    for kind, url in urls.items():
        done = subprocess.run(
            ["node", str(program), url, kind], cwd=folder, capture_output=True, text=True, check=False
        )
        sys.stderr.write(done.stderr[-2000:])
        for line in done.stdout.splitlines():
            read = json.loads(line)
            yield Result(f"{read['client']} (npm)", read["version"], kind, read["what"], read["wrong"])


def table(results: list[Result]) -> str:
    """A row for each client."""
    lines = ["| client | version | bare questions | chat models |", "|---|---|---|---|"]
    for client in dict.fromkeys(result.client for result in results):
        mine = [result for result in results if result.client == client]
        cells = [
            ", ".join(f"{r.what}{' **failed**' if r.wrong else ''}" for r in mine if r.kind == kind)
            for kind in ("bare", "chat")
        ]
        lines.append(f"| {client} | {mine[0].version} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def _shown(result: Result) -> Result:
    """Say it as it comes: a client may hang."""
    sys.stderr.write(f"{result.client}, {result.kind}, {result.what}: {result.wrong or 'fine'}\n")
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--bare", help="base URL of a gateway over models that take bare questions")
    parser.add_argument("--chat", help="base URL of a gateway over chat models")
    parser.add_argument("--node", type=Path, help="folder with the npm packages")
    options = parser.parse_args()
    urls = {kind: url for kind in ("bare", "chat") if (url := getattr(options, kind))}
    every = [python_results(urls), *([node_results(urls, options.node)] if options.node else [])]
    results = [_shown(result) for result in chain(*every)]
    print(table(results))
    for result in results:
        if result.wrong:
            print(f"{result.client}, {result.kind}, {result.what}: {result.wrong}")
    return int(any(result.wrong for result in results))


if __name__ == "__main__":
    raise SystemExit(main())
