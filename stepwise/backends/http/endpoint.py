"""What is common to models behind HTTP: a session with a server, and its failures as errors.

`stepwise.backends.http.failures` says what a refusal means, `stepwise.backends.http.reading` what an answer
holds.

A redirect is not followed: the key goes to the address that the pair names, and nowhere else. ``HTTP_PROXY``,
``HTTPS_PROXY`` and ``NO_PROXY`` are honoured.
"""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from stepwise.backends.http.failures import Unanswered, garbage, refusal
from stepwise.backends.http.reading import EventReader, document, served
from stepwise.engine.backend import TRACE
from stepwise.errors import BackendError, ConfigError

PROBE_S = 1.0
"""Seconds in which a server that can be reached takes a connection; whoever asks for it waits so long."""
NOBODY_BEHIND = (502, 503, 504)
"""What a proxy answers whose server is gone, and a server that still loads its model."""


class Endpoint:
    """An OpenAI-compatible server.

    Connections are kept and shared; closing a response ends the generation behind it.

    Args:
        base_url: up to and including ``/v1``.
        api_key_env: name of the environment variable with the key; empty for none.
        api_key_header: the header that carries the key as it is; by default ``Authorization: Bearer KEY``.
        headers: sent with every request; no place for secrets.
        timeout_s: without a byte for this long, in seconds, a call has failed.

    Raises:
        ConfigError: if the URL is no URL or holds a password, or the variable is not set.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key_env: str = "",
        api_key_header: str = "",
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 120.0,
    ) -> None:
        check_url(base_url)
        if timeout_s <= 0:
            raise ConfigError(f"timeout_s must be more than 0 seconds, not {timeout_s}.")
        if api_key_env and api_key_env not in os.environ:
            raise ConfigError(f"api_key_env: the environment variable {api_key_env!r} is not set.")
        self.base_url = base_url.rstrip("/")
        self._key_env, self._key_header = api_key_env, api_key_header
        self._headers = dict(headers or {})
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=10.0, sock_read=timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    def closing(self) -> Endpoint:
        """The same, with a connection of its own for every call."""
        self._headers["Connection"] = "close"
        return self

    async def get(self, path: str) -> Any:
        """A JSON document.

        Raises:
            BackendError: see `stepwise.backends.http.failures`.
        """
        return document(await self._whole("GET", path, None), self.base_url)

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Send JSON, and wait for the whole answer.

        Raises:
            BackendError: see `stepwise.backends.http.failures`.
        """
        return document(await self._whole("POST", path, body), self.base_url)

    async def stream(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[Any]:
        """Send JSON, and yield the server-sent events of the answer; leaving early closes the connection.

        Raises:
            BackendError: see `stepwise.backends.http.failures`; also when the stream ends before its
            ``[DONE]``.
        """
        events = EventReader(self.base_url)
        try:
            async with self._request("POST", path, body) as response:
                await self._check(response, body)
                async for chunk in response.content.iter_any():
                    for data in events.feed(chunk):
                        if data.strip() == b"[DONE]":
                            return
                        yield self._event(data, body)
                for data in events.end():
                    if data.strip() == b"[DONE]":
                        return
                    yield self._event(data, body)
        except (aiohttp.ClientError, OSError, ValueError) as error:  # timeouts are OSErrors
            raise self._unreachable(error) from error
        raise BackendError(f"{self.base_url} cut a stream off.", retryable=True)

    async def absence(self, path: str) -> BackendError | None:
        """Why the server cannot be reached; None where it can, whatever it answers, and however slowly. What
        a proxy answers in its place does not count."""
        patience = aiohttp.ClientTimeout(total=None, connect=PROBE_S, sock_read=PROBE_S)
        try:
            async with self._request("GET", path, None, timeout=patience) as response:
                absent = response.status in NOBODY_BEHIND
                return refusal(self.base_url, response.status, b"") if absent else None
        except aiohttp.SocketTimeoutError:
            return None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return self._unreachable(error)
        except BackendError as error:  # closed
            return error

    def served_models(self, timeout_s: float, api: str = "") -> dict[str, int | None] | None:
        """The names that the server knows, each with its longest sequence in tokens where the server tells.

        None if it cannot be reached now or does not list its models: it may still come up.

        Args:
            api: where OpenAI's interface begins, behind ``base_url``.

        Raises:
            ConfigError: if it does not accept the key, for a list or for an answer.
        """
        status, raw = self._ask(f"{api}/models", timeout_s)
        if status == 401 and self._ask(f"{api}/chat/completions", timeout_s, b"{}")[0] == 401:
            raise ConfigError(f"{self.base_url} does not accept the key; check api_key_env.")
        with suppress(BackendError):
            return served(document(raw, self.base_url), self.base_url) if status == 200 else None
        return None

    def look(self, path: str, timeout_s: float) -> Any:
        """A JSON document, outside of any event loop; None where none comes in time."""
        status, raw = self._ask(path, timeout_s)
        with suppress(BackendError):
            return document(raw, self.base_url) if status == 200 else None
        return None

    def _ask(self, path: str, timeout_s: float, body: bytes | None = None) -> tuple[int, bytes]:
        """The status and the body of an answer, outside of any event loop; 0 where none came."""
        request = urllib.request.Request(self.base_url + path, body, headers=self._all_headers())
        try:
            with _BLIND.open(request, timeout=timeout_s) as answer:
                return int(answer.status), bytes(answer.read())
        except urllib.error.HTTPError as error:
            error.close()
            return error.code, b""
        except (OSError, ValueError, HTTPException):
            return 0, b""

    async def close(self) -> None:
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _whole(self, method: str, path: str, body: Mapping[str, Any] | None) -> bytes:
        try:
            async with self._request(method, path, body) as response:
                await self._check(response, body or {})
                raw: bytes = await response.read()
                return raw
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._unreachable(error) from error

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None, **more: Any) -> Any:
        url = self.base_url + path
        return self._open().request(
            method, url, json=body, headers=TRACE.get(), allow_redirects=False, proxy=_proxy(url), **more
        )

    async def _check(self, response: aiohttp.ClientResponse, body: Mapping[str, Any]) -> None:
        """Raise what a status that is not a success means."""
        if response.status >= 300:
            raise refusal(
                self.base_url, response.status, await response.read(), body.keys(), response.headers
            )

    def _event(self, data: bytes, body: Mapping[str, Any]) -> Any:
        event = document(data, self.base_url)
        error = event.get("error") if isinstance(event, dict) else None
        if not error:
            return event
        code = error.get("code") if isinstance(error, dict) else None
        status = code if isinstance(code, int) and 300 <= code < 600 else 500
        raise refusal(f"{self.base_url}, in a stream,", status, data, body.keys())

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise BackendError("the backend is closed.")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._all_headers(),
                timeout=self._timeout,
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    def _all_headers(self) -> dict[str, str]:
        key = os.environ.get(self._key_env, "").strip() if self._key_env else ""
        if not key:
            return self._headers
        mine = {self._key_header: key} if self._key_header else {"Authorization": f"Bearer {key}"}
        return {**self._headers, **mine}

    def _unreachable(self, error: Exception) -> BackendError:
        """What broke, by its kind alone: the words of a library may hold an address with a password."""
        if self._closed:
            return Unanswered("the backend was closed.")
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return BackendError(f"{self.base_url} took no connection in time.", retryable=True)
        if isinstance(error, TimeoutError):
            return Unanswered(f"{self.base_url} did not answer in time.", retryable=True)
        if isinstance(
            error, aiohttp.ClientConnectorError | aiohttp.ClientHttpProxyError | aiohttp.InvalidURL
        ):
            proxy = " through the proxy of the environment" if _proxy(self.base_url) else ""
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else ""
            what = f"failed: Cannot connect to host{proxy}{f' ({reason})' if reason else ''}"
            return BackendError(f"{self.base_url} {what}.", retryable=True)
        if isinstance(error, aiohttp.ClientError | OSError):
            return Unanswered(
                f"{self.base_url} broke the connection ({type(error).__name__}).", retryable=True
            )
        return garbage(self.base_url, "is no HTTP")


def check_url(base_url: str) -> None:
    """Refuse what cannot be the address of a server, without repeating a password that it holds.

    Raises:
        ConfigError: if it is not.
    """
    if not base_url.startswith(("http://", "https://")):
        shown = repr(base_url) if "@" not in base_url else "what was given"
        raise ConfigError(f"base_url must start with http:// or https://, not {shown}.")
    try:
        parts = urlsplit(base_url)
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if usable and (parts.username is not None or parts.password is not None or parts.query or parts.fragment):
        raise ConfigError(
            "base_url must be an address alone, without a user, a password or a query; a secret belongs into "
            "the environment variable that api_key_env names, and api_key_header says where it goes."
        )
    if not usable:
        raise ConfigError("base_url must name a host, and a port between 1 and 65535 if any.")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Lets a redirect be an error, as `Endpoint` does."""

    def redirect_request(self, *_: Any) -> None:
        return None


_BLIND = urllib.request.build_opener(_NoRedirect)


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for a URL. (Of aiohttp's own way a ``.netrc`` would be part.)"""
    parts = urlsplit(url)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urllib.request.getproxies().get(parts.scheme)
