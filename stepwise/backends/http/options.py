"""What all models behind HTTP share: where the server is, and how long to wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ClassVar

import msgspec

from stepwise.backends.http.endpoint import Endpoint, check_url
from stepwise.backends.http.replicas import ReplicatedBackend
from stepwise.backends.http.resilient import Patience, resilient
from stepwise.backends.options import BackendOptions, ModelSpec
from stepwise.engine.backend import Backend
from stepwise.errors import BackendError, ConfigError

LOOK_S = 1.0
"""Seconds that a server has to list its models, while a program starts."""


class RemoteOptions(BackendOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a model on a server.

    Attributes:
        base_url: up to and including ``/v1``.
        replicas: base URLs of more servers of the same model, which share the work.
        served_name: the model's name on the server; by default its path, else its name in the pair.
        api_key_env: name of the environment variable with the server's key.
        api_key_header: the header that carries the key as it is (Azure: ``api-key``); by default
            ``Authorization: Bearer KEY``.
        headers: sent with every request; they are recorded with a run, so no place for secrets.
        context: tokens of prompt and answer together; by default what the server or the tokenizer tells.
        concurrency: calls in flight at most.
        patience: how long to go on trying.
    """

    remote: ClassVar[bool] = True
    api: ClassVar[str] = ""
    """Where OpenAI's interface begins, behind ``base_url``: it lists the models."""

    base_url: str
    replicas: tuple[str, ...] = ()
    served_name: str = ""
    api_key_env: str = ""
    api_key_header: str = ""
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    context: int | None = None
    concurrency: int = 256
    patience: Patience = Patience()

    def __post_init__(self) -> None:
        for url in self.urls:
            if "://" in url:
                check_url(url)
        if self.context is not None and self.context < 2:
            raise ConfigError(f"context must be at least 2, not {self.context}.")
        if self.concurrency < 1:
            raise ConfigError(f"concurrency must be at least 1, not {self.concurrency}.")
        if len(set(self.urls)) < len(self.urls):
            raise ConfigError(f"replicas: {self.urls} names a server twice.")
        for name, value in (*self.headers.items(), (self.api_key_header, "")):
            if not name.replace("-", "").isalnum() * name.isascii() and name:
                raise ConfigError(f"headers: {name!r} cannot be the name of a header.")
            if not value.isprintable():
                raise ConfigError(f"headers: the value of {name!r} must be printable.")

    @property
    def urls(self) -> tuple[str, ...]:
        """Base URLs of all servers."""
        return self.base_url, *self.replicas

    def endpoint(self, url: str) -> Endpoint:
        return Endpoint(
            url,
            api_key_env=self.api_key_env,
            api_key_header=self.api_key_header,
            headers=self.headers,
        )

    def connect(self, model: ModelSpec, backend: Callable[[Endpoint, str, int | None], Backend]) -> Backend:
        """The model on all of its servers, with retries.

        Args:
            backend: runs the model on one server, under its name there, with the server's limit in tokens
                where it tells.

        Raises:
            ConfigError: if a server, which need not be up yet, does not know the model.
        """
        endpoints = {url: self.endpoint(url) for url in self.urls}
        each = {url: backend(at, *self.served(model, at)) for url, at in endpoints.items()}
        opened = each[self.base_url]
        if self.replicas:
            opened = ReplicatedBackend(each, rest_s=self.patience.rest_s)

        async def absence() -> BackendError | None:
            """Why none of the servers can be reached."""
            reasons = await asyncio.gather(*(at.absence(f"{self.api}/models") for at in endpoints.values()))
            return None if None in reasons else reasons[0]

        return resilient(
            opened, model.name, patience=self.patience, concurrency=self.concurrency, ask=absence
        )

    def name_of(self, model: ModelSpec) -> str:
        """The model's name on the server."""
        return self.served_name or model.path or model.name

    def served(self, model: ModelSpec, endpoint: Endpoint) -> tuple[str, int | None]:
        """The model's name on the server, and the server's limit in tokens where it tells.

        Raises:
            ConfigError: if the server, which need not be up yet, does not know the model.
        """
        name, known = self.name_of(model), endpoint.served_models(LOOK_S, self.api)
        if known and name not in known:
            names = ", ".join([*known][:20])
            raise ConfigError(
                f"model {model.name!r}: served_name must be one of {names}, which {endpoint.base_url} "
                f"serves, not {name!r}."
            )
        return name, (known or {}).get(name)
