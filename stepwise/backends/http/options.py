"""What all models behind HTTP share: where the server is, and how long to wait for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from stepwise.backends.http.endpoint import Endpoint
from stepwise.backends.http.probe import served_models
from stepwise.backends.http.replicas import ReplicatedBackend
from stepwise.backends.http.resilient import Patience, resilient
from stepwise.backends.options import BackendOptions, ModelSpec
from stepwise.engine.backend import Backend
from stepwise.errors import ConfigError


class RemoteOptions(BackendOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a model on a server.

    Attributes:
        base_url: up to and including ``/v1``.
        replicas: base URLs of more servers of the same model, which share the work.
        served_name: the model's name on the server; by default its path, else its name in the pair.
        api_key_env: name of the environment variable with the server's key.
        context: tokens of prompt and answer together; by default what the server or the tokenizer tells.
        concurrency: calls in flight at most.
        patience: how long to go on trying.
    """

    remote: ClassVar[bool] = True

    base_url: str
    replicas: tuple[str, ...] = ()
    served_name: str = ""
    api_key_env: str = ""
    context: int | None = None
    concurrency: int = 256
    patience: Patience = Patience()

    def __post_init__(self) -> None:
        if self.context is not None and self.context < 2:
            raise ConfigError(f"context must be at least 2, not {self.context}.")
        if self.concurrency < 1:
            raise ConfigError(f"concurrency must be at least 1, not {self.concurrency}.")
        if len(set(self.urls)) < len(self.urls):
            raise ConfigError(f"replicas: {self.urls} names a server twice.")

    @property
    def urls(self) -> tuple[str, ...]:
        """Base URLs of all servers."""
        return self.base_url, *self.replicas

    def connect(self, model: ModelSpec, backend: Callable[[Endpoint], Backend]) -> Backend:
        """The model on all of its servers, with retries.

        Args:
            backend: runs the model on one server.
        """
        each = {url: backend(Endpoint(url, api_key_env=self.api_key_env)) for url in self.urls}
        opened = each[self.base_url]
        if self.replicas:
            opened = ReplicatedBackend(each, rest_s=self.patience.rest_s)
        return resilient(opened, model.name, patience=self.patience, concurrency=self.concurrency)

    def served(self, model: ModelSpec) -> tuple[str, int | None]:
        """The model's name on the server, and the server's limit in tokens where it tells.

        Raises:
            ConfigError: if a server, which need not be up yet, does not know the model.
        """
        name = self.served_name or model.path or model.name
        limits = [self._limit(model, url, name) for url in self.urls]
        return name, min((limit for limit in limits if limit is not None), default=None)

    def _limit(self, model: ModelSpec, url: str, name: str) -> int | None:
        known = served_models(url, self.api_key_env)
        if known is not None and name not in known:
            raise ConfigError(
                f"model {model.name!r}: served_name must be one of {', '.join(known)}, which {url} "
                f"serves, not {name!r}."
            )
        return (known or {}).get(name)
