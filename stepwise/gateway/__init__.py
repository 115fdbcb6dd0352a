"""An OpenAI-compatible server over an engine: `create_app`, and ``stepwise serve``."""

from __future__ import annotations

from stepwise.errors import ConfigError

try:
    from stepwise.gateway.admission import Limits
    from stepwise.gateway.app import create_app
    from stepwise.gateway.keys import Keys, Tenant
    from stepwise.gateway.spending import Spending
except ModuleNotFoundError as error:
    missing = (error.name or "").split(".")[0]
    if missing == "stepwise":
        raise
    raise ConfigError(f"the gateway needs {missing}: pip install 'stepwise[gateway]'.") from error

__all__ = ["Keys", "Limits", "Spending", "Tenant", "create_app"]
