"""Refusals and failures as HTTP: one shape, the one that OpenAI clients parse.

{"error": {"message": ..., "type": ..., "code": ..., "param": ...}}
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from fastapi.responses import JSONResponse

from stepwise.errors import (
    BackendError,
    ConfigError,
    ContextOverflow,
    InfeasibleTarget,
    RouterError,
    StepwiseError,
)
from stepwise.gateway.log import log

TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
SHOWN = 60
"""Characters of a value or a name out of a request that a sentence repeats."""
RETRY_S = 5
"""Seconds after which a model that could not be run is worth another try."""


class Refusal(StepwiseError):
    """A request that is not answered.

    Args:
        status: of the HTTP answer.
        message: what was expected, what came, what to do.
        code: for programs.
        param: the field of the request that is to blame.
        retry_after: seconds after which the same request may succeed.
        nearest: the nearest target that can be reached, for one that cannot.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        retry_after: int | None = None,
        nearest: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.retry_after, self.nearest = retry_after, nearest

    def body(self) -> dict[str, Any]:
        kind = TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        error = {"message": self.message, "type": kind, "code": self.code, "param": self.param}
        return {"error": error if self.nearest is None else {**error, "nearest": self.nearest}}

    def response(self) -> JSONResponse:
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body(), self.status, headers)


def refusal(error: BaseException) -> Refusal:
    """Any failure as a refusal; what is not meant for clients stays in the log."""
    internal = Refusal(500, "the gateway failed; its log says why.", code="internal_error")
    match error:
        case Refusal():
            return error
        case InfeasibleTarget():
            return Refusal(400, str(error), code="infeasible_target", param="stepwise", nearest=error.best)
        case ContextOverflow():
            return Refusal(400, str(error), code="context_length_exceeded")
        case RouterError():  # whoever runs the gateway has to mend it
            log("router", error=str(error))
            return internal
        case ConfigError():
            return Refusal(400, str(error), code="invalid_value")
        case BackendError():
            return backend_failure(str(error), retryable=error.retryable)
        case TimeoutError():
            return Refusal(504, "the request took longer than this server allows.", code="timeout")
    return internal


def backend_failure(message: str, *, retryable: bool) -> Refusal:
    """A model that could not be run: 503 when it may work again, 502 when it will not by itself."""
    if retryable:
        return Refusal(503, message, code="backend_unavailable", retry_after=RETRY_S)
    return Refusal(502, message, code="backend_failed")


def invalid(errors: Sequence[Any]) -> Refusal:
    """The first of pydantic's complaints as a sentence: the field, what was expected, what came."""
    first = errors[0]
    context = first.get("ctx") or {}
    if first["type"] == "json_invalid":
        place = first["loc"][-1]
        reason = f"is not valid JSON: {context.get('error', 'it is broken')} at character {place}"
        return Refusal(400, f"body: {reason}.", code="invalid_request", param="body")
    place = [str(part) for part in first["loc"] if part != "body"]
    field = printable(".".join([*place, *([context["field"]] if "field" in context else [])])) or "body"
    return Refusal(400, f"{field}: {_reason(first)}.", code="invalid_request", param=field)


def _reason(error: Any) -> str:
    if error["type"] == "missing":
        return "is required"
    message = str(error["msg"]).removeprefix("Value error, ").replace(" after validation", "")
    reason = re.sub(r"^\w+ should ", "must ", message)
    return reason if reason == message or ", not " in reason else f"{reason}, not {shown(error['input'])}"


def shown(value: Any) -> str:
    """What came, short enough for a sentence."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, str | bytes):
        return repr(value if len(value) <= SHOWN else value[:SHOWN])
    return json.dumps(value)[:SHOWN]


def printable(name: str) -> str:
    """A name out of a request as it may stand in an answer: bounded, without control characters or halves of
    surrogate pairs."""
    name = name[:SHOWN]
    return name if name.isprintable() else ascii(name)
