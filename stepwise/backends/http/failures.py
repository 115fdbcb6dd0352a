"""What a server's refusal means, and how it is told.

| class | answers | error |
|---|---|---|
| passes | refused, reset, cut off, timed out, 408, 409, 425, 429, 5xx, no JSON | retryable |
| is about this request | 400, 413, 422, 451: content, length, a parameter | `RequestRefused` |
| stays | 401, 403, 404, a redirect, no quota, any other | not retryable |

What the server wrote may hold a prompt, a key or an address, and an error reaches whoever asked. So an error
says what follows in words of ours; of the server's it repeats those of `CODES` and names of fields that we
sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from stepwise.errors import BackendError, ContextOverflow, RequestRefused

PASSING = (408, 409, 425, 429)
STAYING = (501, 505)
OF_THIS_REQUEST = (400, 413, 422, 451)

OVERFLOW = (
    "maximum context length", "context length", "context_length_exceeded", "max_model_len", "context window",
    "prompt is too long", "input is too long", "available context size",
)  # fmt: skip
QUOTA = (
    "insufficient_quota", "insufficient quota", "exceeded your current quota", "billing", "credit balance",
    "insufficient balance", "insufficient credits",
)  # fmt: skip
CODES = frozenset({
    "unsupported_parameter", "unsupported_value", "unknown_parameter", "invalid_parameter", "model_not_found",
    "invalid_model", "extra_forbidden", "content_filter", "content_policy_violation", "invalid_prompt",
    "invalid_api_key", "insufficient_quota", "rate_limit_exceeded", "invalid_request_error",
    "not_found_error", "authentication_error", "permission_error", "overloaded_error",
    "string_above_max_length",
})  # fmt: skip
"""Words of servers that may be repeated."""


class Unanswered(BackendError):
    """A request was sent and its answer did not come whole: the server has computed nobody knows how much."""


def garbage(where: str, what: str) -> Unanswered:
    """An answer that is none: something between us and the model, or a server that is not what it says."""
    return Unanswered(f"{where} answered something that {what}.", retryable=True)


def check_name(where: str, name: str, *expected: str) -> None:
    """Refuse an answer of another model.

    Raises:
        BackendError: if it answers as none of those that were ``expected``.
    """
    if name not in expected:
        shown = repr(name) if re.fullmatch(r"[\w./:@+-]{1,100}", name) else "another model"
        raise BackendError(f"{where} answered as {shown}, asked for {expected[0]!r}.")


def refusal(
    where: str, status: int, raw: bytes, sent: Collection[str] = (), headers: Mapping[str, str] | None = None
) -> BackendError:
    """What an answer that is no success means.

    Args:
        where: the server, as errors may name it.
        status: of the answer, 300 or more.
        raw: its body.
        sent: names of the request's fields.
        headers: of the answer.
    """
    text = raw[:100_000].decode(errors="replace").lower()
    message = f"{where} answered {status}{_details(raw, sent)}"
    if status < 400:
        return BackendError(f"{message}: a redirect, which is not followed; base_url must be where it leads.")
    if status in (401, 403):
        return BackendError(f"{message}: it does not accept the key; check api_key_env.")
    if status == 402 or (status == 429 and any(mark in text for mark in QUOTA)):
        return BackendError(f"{message}: the account's quota is used up.")
    if status == 404:
        return BackendError(f"{message}: no such model or address; check served_name and base_url.")
    if status in OF_THIS_REQUEST:
        if any(mark in text for mark in OVERFLOW):
            return ContextOverflow(f"{message}: the chain exceeds the model's maximum context length.")
        return RequestRefused(f"{message}: it refuses this request.")
    passes = status in PASSING or (status >= 500 and status not in STAYING)
    wait = _seconds((headers or {}).get("Retry-After", "")) if passes else 0.0
    return BackendError(f"{message}.", retryable=passes, wait_s=wait)


def _details(raw: bytes, sent: Collection[str]) -> str:
    """The known words of an error's code and type, and the field that it blames, if we sent it."""
    error = _error(raw)
    words = [word for key in ("code", "type") if isinstance(word := error.get(key), str) and word in CODES]
    field = error.get("param")
    blamed = [f"parameter {field!r}"] if isinstance(field, str) and field in sent else []
    parts = [*dict.fromkeys(words), *blamed]
    return f" ({', '.join(parts)})" if parts else ""


def _error(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    inner = body.get("error", body) if isinstance(body, dict) else {}
    return inner if isinstance(inner, dict) else {}


def _seconds(header: str) -> float:
    """Of a Retry-After header; dates, and what is no time to wait, are left to the backoff."""
    try:
        seconds = float(header)
    except ValueError:
        return 0.0
    return seconds if 0.0 <= seconds < 86_400.0 else 0.0
