"""What operators ask: is it alive, can it serve, what are the numbers."""

from __future__ import annotations

import asyncio
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
        """503 while no model can be run, because its server cannot be reached or its circuit breaker is open.
        Asks the servers, so that one that is back is found without any traffic; names each one's state."""
        engine = gateway.engine
        await asyncio.gather(*map(engine.reachable, engine.models))
        models = {name: breakers.state(engine.backends[name]) or breakers.STATES[0] for name in engine.models}
        unable = [name for name, state in models.items() if state in breakers.UNABLE]
        able = len(unable) < len(models)
        return JSONResponse({"ready": able, "degraded": bool(unable), "models": models}, 200 if able else 503)

    @routes.get("/metrics")
    async def metrics() -> Response:
        return Response(gateway.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return routes
