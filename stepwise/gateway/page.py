"""The page, and what it asks beyond OpenAI's endpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse
from pydantic import Field

from stepwise.calibration import CalibrationRecord
from stepwise.engine.engine import MAX_QUESTION
from stepwise.errors import ConfigError
from stepwise.gateway.answers import estimated, threshold
from stepwise.gateway.entrance import tenant_of
from stepwise.gateway.failures import Refusal
from stepwise.gateway.gateway import Gateway
from stepwise.gateway.knob import Weighing, record_of
from stepwise.gateway.strict import Strict, Text
from stepwise.types import Estimate, Router

if TYPE_CHECKING:
    from stepwise.scope import Scope

FOLDER = Path(str(files("stepwise") / "gateway" / "static"))
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def starting() -> Response:
    """The page of a gateway whose models are being loaded; it asks for itself again until they are."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"
    headers = {**HEADERS, "Content-Security-Policy": policy, "Cache-Control": "no-store", "Retry-After": "2"}
    return FileResponse(FOLDER / "starting.html", status_code=503, headers=headers)


class QuestionEstimator(Protocol):
    """`stepwise.scope.Scope`, as far as the page needs it."""

    def estimate(self, question: str, models: Sequence[str]) -> Sequence[Estimate]: ...


class Question(Strict):
    question: Annotated[Text, Field(min_length=1, max_length=MAX_QUESTION)]


def page_routes(
    gateway: Gateway, estimator: QuestionEstimator | None, examples: Sequence[str], purpose: str
) -> APIRouter:
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
            "default": {"router": knob.default, "setting": _setting(router)},
            "budget": knob.online.target if knob.online else None,
            "calibration": _curve(gateway),
            "cost_unit": gateway.engine.cost.unit,
            "conversation": gateway.converses,
            "estimates": estimator is not None,
            "examples": list(examples),
            "purpose": purpose,
        }

    @routes.get("/stepwise/recent")
    async def recent(request: Request) -> Mapping[str, Any]:
        """The caller's latest chains, and what all chains have cost since the server started."""
        return {
            "recent": await gateway.spending.recent.of(tenant_of(request).name),
            "spent": gateway.metrics.spent(gateway.engine.cost.unit),
        }

    @routes.post("/stepwise/estimate")
    def estimate(asked: Question) -> Mapping[str, Any]:
        """What each model alone would make of a question, before anything is generated."""
        if estimator is None:
            raise Refusal(404, "this server has no estimator.", code="no_estimator")
        estimates = estimator.estimate(asked.question, models=gateway.engine.models)
        return {"estimates": [estimated(each) for each in estimates]}

    return routes


def _setting(router: Router) -> float | None:
    """Where a router's knob stands: its alpha where it chooses by estimates, else its threshold."""
    setting: float | None = getattr(router, "alpha", None)
    return threshold(router) if setting is None else setting


def _curve(gateway: Gateway) -> Mapping[str, Any] | None:
    """What the settings of the default router's knob gave, on the problems it was calibrated on."""
    router = gateway.knob.routers[gateway.knob.default]
    if isinstance(router, Weighing):
        return _on_anchors(router.scope, router.models)
    try:
        record: CalibrationRecord = record_of(router)
    except ConfigError:
        return None
    return {
        "knob": "threshold",
        "n": record.n,
        "setting": record.thresholds.tolist(),
        "cost": record.cost_share.round(4).tolist(),
        "accuracy": record.accuracy.round(4).tolist(),
        "large_accuracy": float(record.large_correct.mean()),
    }


def _on_anchors(scope: Scope, models: Sequence[str]) -> Mapping[str, Any]:
    """From correctness alone to cost alone, each cost once, as shares of the last model's."""
    (large,) = scope.settings(models[-1:])[:1]
    settings = {setting.cost: setting for setting in scope.settings(models)}
    by_alpha = sorted(settings.values(), key=lambda setting: -setting.alpha)
    return {
        "knob": "alpha",
        "n": len(scope.anchors),
        "setting": [setting.alpha for setting in by_alpha],
        "cost": [round(setting.cost / large.cost, 4) for setting in by_alpha],
        "accuracy": [round(setting.value, 4) for setting in by_alpha],
        "large_accuracy": large.value,
    }
