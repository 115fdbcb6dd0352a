"""What operators ask: is it alive, can it serve, what are the numbers."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from stepwise import __version__
from stepwise.gateway import breakers
from stepwise.gateway.gateway import Gateway


def healthy() -> dict[str, str]:
    """The process is alive; whether a model is, `/ready` says."""
    return {"status": "ok", "version": __version__}


def operations_routes(gateway: Gateway) -> APIRouter:
    routes = APIRouter()

    @routes.get("/health")
    async def health() -> dict[str, Any]:
        return healthy()

    @routes.get("/ready")
    async def ready() -> Response:
        """503 while every model's circuit breaker is open: no chain can run. Names each one's state."""
        models = {
            name: breakers.state(gateway.engine.backends[name]) or "closed" for name in gateway.engine.models
        }
        able = set(models.values()) != {"open"}
        return JSONResponse({"ready": able, "models": models}, 200 if able else 503)

    @routes.get("/metrics")
    async def metrics() -> Response:
        return Response(gateway.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return routes
