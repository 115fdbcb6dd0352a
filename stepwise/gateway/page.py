"""The page, and what it asks beyond OpenAI's endpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse
from pydantic import Field

from stepwise.calibration import CalibrationRecord
from stepwise.engine.engine import MAX_QUESTION
from stepwise.errors import ConfigError
from stepwise.gateway.entrance import tenant_of
from stepwise.gateway.failures import Refusal
from stepwise.gateway.gateway import Gateway
from stepwise.gateway.knob import record_of
from stepwise.gateway.strict import Strict, Text
from stepwise.types import Estimate

FOLDER = Path(str(files("stepwise") / "gateway" / "static"))
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class QuestionEstimator(Protocol):
    """`stepwise.scope.Scope`, as far as the page needs it."""

    def estimate(self, question: str, models: Sequence[str]) -> Sequence[Estimate]: ...


class Question(Strict):
    question: Annotated[Text, Field(min_length=1, max_length=MAX_QUESTION)]


def page_routes(gateway: Gateway, estimator: QuestionEstimator | None, examples: Sequence[str]) -> APIRouter:
    routes = APIRouter()

    @routes.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(FOLDER / "index.html", headers=HEADERS)

    @routes.get("/stepwise/server")
    def server() -> Mapping[str, Any]:
        """What this server is: models, routers, and how cost and accuracy follow the threshold."""
        knob, router = gateway.knob, gateway.knob.router("stepwise", None)[0]
        return {
            "models": gateway.engine.models,
            "routers": list(knob.routers),
            "default": {"router": knob.default, "threshold": getattr(router, "threshold", None)},
            "budget": knob.online.target if knob.online else None,
            "calibration": _curve(gateway),
            "cost_unit": gateway.engine.cost.unit,
            "estimates": estimator is not None,
            "examples": list(examples),
        }

    @routes.get("/stepwise/recent")
    async def recent(request: Request) -> Mapping[str, Any]:
        """The caller's latest chains."""
        return {"recent": await gateway.spending.recent.of(tenant_of(request).name)}

    @routes.post("/stepwise/estimate")
    def estimate(asked: Question) -> Mapping[str, Any]:
        """What each model alone would make of a question, before anything is generated."""
        if estimator is None:
            raise Refusal(404, "this server has no estimator.", code="no_estimator")
        fields = ("model", "p_correct", "p_interval", "tokens", "interval", "cost", "outside")
        estimates = estimator.estimate(asked.question, models=gateway.engine.models)
        return {"estimates": [{name: getattr(each, name) for name in fields} for each in estimates]}

    return routes


def _curve(gateway: Gateway) -> Mapping[str, Any] | None:
    try:
        record: CalibrationRecord = record_of(gateway.knob.routers[gateway.knob.default])
    except ConfigError:
        return None
    return {
        "n": record.n,
        "threshold": record.thresholds.tolist(),
        "cost": record.cost_share.round(4).tolist(),
        "accuracy": record.accuracy.round(4).tolist(),
        "large_accuracy": float(record.large_correct.mean()),
    }
