"""One replica of a gateway that shares its accounts with others and may be killed; its model only waits.

python -m tests.gateway_replica STATE KEYS LEASE_S
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from scripts.bench.cluster import Model
from stepwise.engine.cost import Tokens
from stepwise.engine.engine import Engine
from stepwise.engine.stop_rules import StepRule
from stepwise.gateway import Keys, create_app, redis_accounts, shared
from stepwise.gateway.connections import Bounds
from stepwise.gateway.redis_accounts import RedisAccounts
from stepwise.gateway.server import bind, serve
from stepwise.gateway.shared import SharedSpending
from stepwise.routers import Always

UNIT = "tokens"


def waiting_engine() -> Engine:
    return Engine({"model": Model(0.01)}, prompt="{question}\n", rule=StepRule("\n"), cost=Tokens())


def build(state: str, keys: Path) -> tuple[Any, Engine]:
    tenants = Keys.load(keys)
    engine = waiting_engine()
    spending = SharedSpending(RedisAccounts(state, UNIT), tenants=tenants.tenants)
    return create_app(engine, {"alone": Always("model")}, keys=tenants, spending=spending), engine


def main(state: str, keys: Path, lease_s: float) -> None:
    redis_accounts.LEASE_S, shared.RENEW_S = lease_s, lease_s / 3
    listening = bind("127.0.0.1", 0)
    port = listening.getsockname()[1]
    serve(
        lambda: build(state, keys), listening, drain=10, bounds=Bounds(1000),
        ready=lambda: print(port, flush=True),
    )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
