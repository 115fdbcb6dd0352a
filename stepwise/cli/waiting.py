"""Models' servers that do not answer while a person waits at the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from stepwise.cli.terminal import plain
from stepwise.engine.backend import WAIT, reachable
from stepwise.engine.engine import Engine


async def wait_for_servers(engine: Engine, console: Console) -> None:
    """Let what follows in this task wait for a server no longer than a restart takes, and say which models'
    servers do not answer now."""
    WAIT.set("restart")
    for name, backend in engine.backends.items():
        if await reachable(backend):
            continue
        from stepwise.backends.http.resilient import ResilientBackend

        if isinstance(backend, ResilientBackend) and backend.restarting:
            left = backend.patience.restart_s - backend.presence.gone_s
            line = f"{name} does not answer: {backend.presence.reason} Trying for up to {left:.2g} s more."
            console.print(Text(plain(line), style="yellow"), soft_wrap=True)
