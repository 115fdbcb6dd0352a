"""Which servers of models run on this machine: those that answer at the ports where they usually listen."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from stepwise.backends.http.endpoint import Endpoint
from stepwise.backends.http.reading import served
from stepwise.errors import BackendError

PORTS: Mapping[int, str] = {
    8000: "vLLM", 8001: "vLLM", 8002: "vLLM", 8080: "llama-server", 8081: "llama-server", 11434: "Ollama",
    30000: "SGLang", 1234: "LM Studio",
}  # fmt: skip
"""Where a server listens if nobody says otherwise, and the one that does."""
QUICK_S = 2.0
"""Seconds: a server on this machine answers sooner, or is none."""


class Served(NamedTuple):
    """A model and the address that serves it."""

    base_url: str
    model: str


async def local_models(ports: Sequence[int] = tuple(PORTS)) -> list[Served]:
    """The models behind these ports of this machine."""

    async def behind(port: int) -> list[Served]:
        try:
            return await models_of(f"http://127.0.0.1:{port}/v1")
        except BackendError:
            return []

    answers = await asyncio.gather(*map(behind, ports))
    return [model for models in answers for model in models]


async def models_of(base_url: str, api_key_env: str = "", timeout_s: float = QUICK_S) -> list[Served]:
    """A server's models.

    Raises:
        ConfigError: if the URL is no URL.
        BackendError: if nobody answers there, or no server of models.
    """
    endpoint = Endpoint(base_url, api_key_env=api_key_env, timeout_s=timeout_s)
    try:
        return [Served(base_url, name) for name in served(await endpoint.get("/models"), base_url)]
    finally:
        await endpoint.close()
