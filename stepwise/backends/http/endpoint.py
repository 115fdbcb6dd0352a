"""What is common to models behind HTTP: a session, and what its failures mean.

| what happens | error |
|---|---|
| refused, reset, cut off, timed out, 408, 429, 5xx, no JSON | retryable; 429 and 503 say how long to wait |
| 400 that speaks of the context | `ContextOverflow` |
| any other 4xx, another model's name | not retryable |
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp

from stepwise.errors import BackendError, ConfigError, ContextOverflow

RETRYABLE = (408, 409, 425, 429)
OVERFLOW = ("maximum context length", "context length", "context_length_exceeded", "max_model_len")


class Unanswered(BackendError):
    """A request was sent and its answer did not come whole: the server has computed nobody knows how much."""


class Endpoint:
    """An OpenAI-compatible server.

    Connections are kept and shared; closing a response ends the generation behind it.

    Args:
        base_url: up to and including ``/v1``.
        api_key_env: name of the environment variable with the key; empty for none.
        timeout_s: without a byte for this long, in seconds, a call has failed.

    Raises:
        ConfigError: if the URL is no URL or the variable is not set.
    """

    def __init__(self, base_url: str, *, api_key_env: str = "", timeout_s: float = 120.0) -> None:
        if not base_url.startswith(("http://", "https://")):
            raise ConfigError(f"base_url must start with http:// or https://, not {base_url!r}.")
        if timeout_s <= 0:
            raise ConfigError(f"timeout_s must be more than 0 seconds, not {timeout_s}.")
        if api_key_env and api_key_env not in os.environ:
            raise ConfigError(f"api_key_env: the environment variable {api_key_env!r} is not set.")
        self.base_url = base_url.rstrip("/")
        self._key_env = api_key_env
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    async def get(self, path: str) -> Any:
        """A JSON document.

        Raises:
            BackendError: see the table above.
        """
        try:
            async with self._open().get(self.base_url + path) as response:
                await _check(response)
                return await _json(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from error

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Send JSON, and wait for the whole answer.

        Raises:
            BackendError: see the table above.
        """
        try:
            async with self._open().post(self.base_url + path, json=body) as response:
                await _check(response)
                return await _json(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from error

    async def stream(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[Any]:
        """Send JSON, and yield the server-sent events of the answer; leaving early closes the connection.

        Raises:
            BackendError: see the table above; also when the stream ends before its ``[DONE]``.
        """
        try:
            async with self._open().post(self.base_url + path, json=body) as response:
                await _check(response)
                async for line in response.content:
                    if not line.startswith(b"data:"):
                        continue
                    data = line[5:].strip()
                    if data == b"[DONE]":
                        return
                    yield _event(data)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from error
        raise BackendError(f"{self.base_url} cut a stream off.", retryable=True)

    async def close(self) -> None:
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise BackendError("the backend is closed.")
        if self._session is None:
            key = os.environ.get(self._key_env, "") if self._key_env else ""
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            self._session = aiohttp.ClientSession(
                headers=headers, timeout=self._timeout, connector=aiohttp.TCPConnector(limit=0)
            )
        return self._session

    def _unreachable(self, error: Exception) -> BackendError:
        what = "did not answer in time" if isinstance(error, TimeoutError) else f"failed: {error}"
        if self._closed:
            return Unanswered("the backend was closed.")
        refused = isinstance(error, aiohttp.ClientConnectorError | aiohttp.InvalidURL)
        kind = BackendError if refused else Unanswered
        return kind(f"{self.base_url} {what}", retryable=True)


def cached_tokens(usage: Any) -> int:
    """Of a ``usage`` object: prompt tokens that the server found in its cache, 0 where it does not tell."""
    return int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)


async def _check(response: aiohttp.ClientResponse) -> None:
    """Raise what a status that is not a success means."""
    status = response.status
    if status < 400:
        return
    text = _sentence(await response.text(errors="replace"))
    if status == 400 and any(mark in text.lower() for mark in OVERFLOW):
        raise ContextOverflow(f"{response.url} refused the chain: {text}")
    raise BackendError(
        f"{response.url} answered {status}: {text}",
        retryable=status in RETRYABLE or status >= 500,
        wait_s=_seconds(response.headers.get("Retry-After", "")),
    )


async def _json(response: aiohttp.ClientResponse) -> Any:
    raw = await response.read()
    try:
        return json.loads(raw)
    except ValueError as error:
        raise Unanswered(
            f"{response.url} answered something that is no JSON: {raw[:60]!r}", retryable=True
        ) from error


def _event(data: bytes) -> Any:
    try:
        event = json.loads(data)
    except ValueError as error:
        raise BackendError(
            f"a stream carried something that is no JSON: {data[:60]!r}", retryable=True
        ) from error
    if isinstance(event, dict) and event.get("error"):
        raise BackendError(f"a stream ended with an error: {_sentence(json.dumps(event))}", retryable=True)
    return event


def _sentence(text: str) -> str:
    """The message of an error answer, or the beginning of whatever came."""
    try:
        body = json.loads(text)
        inner = body.get("error", body)
        return str(inner.get("message", inner) if isinstance(inner, dict) else inner)[:300]
    except (ValueError, AttributeError):
        return text[:300]


def _seconds(header: str) -> float:
    """Of a Retry-After header; dates are left to the backoff."""
    try:
        return max(float(header), 0.0)
    except ValueError:
        return 0.0
