"""One replica of a gateway over scripted models, which shares its accounts with others and may be killed.

python -m tests.gateway_replica STATE KEYS
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from stepwise.backends.scripted import ScriptedBackend
from stepwise.engine.cost import Tokens
from stepwise.engine.engine import Engine
from stepwise.engine.stop_rules import StepRule
from stepwise.gateway import Keys, create_app
from stepwise.gateway.redis_accounts import RedisAccounts
from stepwise.gateway.server import bind, serve
from stepwise.gateway.shared import SharedSpending
from stepwise.routers import Always

LINE = "one more line\n"
STEPS = 4
UNIT = "tokens"


def steps(text: str) -> str:
    """Every chain has four lines, so that all cost the same."""
    return LINE * (STEPS - text.count(LINE))


async def busy(_: str) -> None:
    await asyncio.sleep(0.01)


def build(state: str, keys: Path) -> tuple[Any, Engine]:
    tenants = Keys.load(keys)
    engine = Engine(
        {"small": ScriptedBackend(steps, before=busy)}, prompt="{question}\n", rule=StepRule("\n", 64, 32),
        cost=Tokens(),
    )  # fmt: skip
    spending = SharedSpending(RedisAccounts(state, UNIT), tenants=tenants.tenants)
    return create_app(engine, {"alone": Always("small")}, keys=tenants, spending=spending), engine


if __name__ == "__main__":
    listening = bind("127.0.0.1", 0)
    port = listening.getsockname()[1]
    serve(
        lambda: build(sys.argv[1], Path(sys.argv[2])), listening, drain=10,
        ready=lambda: print(port, flush=True),
    )  # fmt: skip
