"""What servers share that take token ids and give token ids."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from stepwise.backends import checkpoint
from stepwise.backends.http.endpoint import Endpoint
from stepwise.backends.http.options import RemoteOptions
from stepwise.backends.http.pace import Pace
from stepwise.backends.http.turns import turn_body, write_turn
from stepwise.backends.options import ModelSpec
from stepwise.backends.tokenized import Tokenized
from stepwise.engine.backend import Backend, Completion, Lost, Sampling, text_tokens, unaccounted
from stepwise.errors import ConfigError
from stepwise.types import Form

MARGIN = 64
"""Tokens that a server's template may add to a prompt."""


class TokenOptions(RemoteOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a model whose tokens are made here.

    Attributes:
        tokenizer: folder or hub id of its tokenizer; by default the model's path.
    """

    tokenizer: str = ""

    def tokenizer_of(self, model: ModelSpec, backend: str) -> str:
        """Where the model's tokenizer is.

        Raises:
            ConfigError: if neither the options nor the model say so.
        """
        tokenizer = self.tokenizer or model.path
        if not tokenizer:
            raise ConfigError(
                f"model {model.name!r}: backend {backend} needs a tokenizer (a folder or a hub id)."
            )
        return tokenizer

    def run_as(self, kind: type[AnswersWhole], model: ModelSpec, backend: str) -> Backend:
        """The model on its server, or its servers, each behind a backend of this kind.

        Raises:
            ConfigError: if the tokenizer is missing, or no server has the model.
        """
        tokenizer = self.tokenizer_of(model, backend)
        return self.connect(
            model,
            lambda endpoint, name, limit: kind(
                endpoint, name, tokenizer=tokenizer, parameters=model.parameters or 0,
                revision=model.identity, context=self.context or limit or checkpoint.context(tokenizer),
            ),
        )  # fmt: skip


class TokenServer(Tokenized):
    """One model on a server.

    Args:
        endpoint: the server.
        model: its name there.
        tokenizer: folder of the model's tokenizer, or the id of a downloaded hub model.
        context: tokens of a prefix and its completion together.
        parameters: number of parameters of the model, for cost in FLOPs.
        revision: identifies the weights; part of every store key.

    Raises:
        ConfigError: if the tokenizer is missing or ``context`` is too small.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        model: str = "",
        *,
        tokenizer: str,
        context: int,
        parameters: int = 0,
        revision: str = "",
    ) -> None:
        super().__init__(checkpoint.locate(tokenizer))
        if context < 2:
            raise ConfigError(f"context must be at least 2 tokens, not {context}.")
        self.model = model
        self.context = context
        self.parameters = parameters
        self.tokenizer = checkpoint.tokenizer_id(tokenizer)
        self.revision = revision or f"{endpoint.base_url} {model}"
        self.endpoint = endpoint

    async def write_turn(
        self, path: str, prefix: Sequence[int], sampling: Sampling, form: Form, lost: Lost, **body: Any
    ) -> Completion:
        """A turn of a given form, by the chat endpoint of the same server.

        Args:
            path: of that endpoint.
            body: more fields of the request.
        """
        most = max(1, min(sampling.max_tokens, self.context - text_tokens(len(prefix)) - MARGIN))
        asked = body | turn_body(self.model, sampling, most)
        return await write_turn(self.endpoint, path, asked, form, most, self.context, lost)

    async def close(self) -> None:
        await self.endpoint.close()


class AnswersWhole(TokenServer):
    """A server whose answers come whole, and say what they took: what one took that never came is estimated
    from the pace of the others."""

    @cached_property
    def _pace(self) -> Pace:
        """How fast the server writes, as far as it has been seen."""
        return Pace()

    async def generate(
        self, prefix: Sequence[int], sampling: Sampling, lost: Lost = unaccounted
    ) -> Completion:
        with self._pace.watch(len(prefix), sampling.max_tokens, lost) as call:
            completion = await self.complete(prefix, sampling, lost)
            call.finished(completion.usage)
        return completion

    async def complete(self, prefix: Sequence[int], sampling: Sampling, lost: Lost) -> Completion:
        """One call."""
        raise NotImplementedError
