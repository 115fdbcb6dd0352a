"""An OpenAI-compatible server over an engine: `create_app`, and ``stepwise serve``."""

from __future__ import annotations

from stepwise.extras import missing_extra

try:
    from stepwise.gateway.admission import Limits
    from stepwise.gateway.app import create_app
    from stepwise.gateway.keys import Keys, Tenant
    from stepwise.gateway.spending import Spending
except ModuleNotFoundError as error:
    if (error.name or "").split(".")[0] == "stepwise":
        raise
    raise missing_extra("the gateway", "gateway") from error

__all__ = ["Keys", "Limits", "Spending", "Tenant", "create_app"]
