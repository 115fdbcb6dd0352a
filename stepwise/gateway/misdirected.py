"""Requests that no route takes: the sentence says where they were probably meant to go."""

from __future__ import annotations

from starlette.exceptions import HTTPException

from stepwise.gateway.failures import Refusal, printable

PLACES = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/models")
"""Where OpenAI's clients go; a wrong base URL puts something else before or between."""
CODES = {400: "invalid_request", 404: "not_found", 405: "method_not_allowed"}


def misdirected(method: str, path: str, error: HTTPException) -> Refusal:
    """The refusal of a wrong path or method, or of a body that cannot be read."""
    shown = printable(path)
    match error.status_code:
        case 404:
            meant = next((place for place in PLACES if path.endswith(place.removeprefix("/v1"))), None)
            hint = f"use {meant}" if meant else f"there are {', '.join(PLACES)}"
            message = f"there is no {shown} here; {hint}."
        case 405:
            message = f"{shown} takes {(error.headers or {}).get('Allow', 'another method')}, not {method}."
        case _:
            message = f"{error.detail}."
    return Refusal(error.status_code, message, code=CODES.get(error.status_code, "http_error"))
