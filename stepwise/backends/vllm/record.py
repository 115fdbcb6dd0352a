"""What a running vLLM engine tells of a request's tokens, kept as it comes.

vLLM unpacks the log-probabilities of every token in Python, decodes the text of every alternative, and
hands a streamed answer over one token at a time, merging what was not fetched yet. With 128 requests in
flight that takes longer than a small model's own computation, and nobody reads most of it here. There is
no setting for it, so each request gets a `TokenRecord` in the place of vLLM's processor of log-probabilities.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np


class TokenRecord:
    """The tokens of a request that nobody has read yet, and who waits for them.

    Args:
        state: vLLM's own, which knows how much of the prompt was cached.
        ready: set when there is enough to read.

    Attributes:
        token_ids: those that nobody has read.
        cached: tokens of the prompt that vLLM found in its cache; None before the first token.
        prompt: vLLM's log-probabilities of the prompt [prompt - 1, 1 + likeliest], where they were asked for;
            rows of tokens that were cached mean nothing.
    """

    logprobs = prompt_logprobs = prompt_token_id_logprobs = cumulative_logprob = None
    """What vLLM would put into its outputs."""

    def __init__(self, state: Any, ready: asyncio.Event) -> None:
        self.token_ids: list[int] = []
        self.cached: int | None = None
        self.prompt: Any = None
        self._rows: list[Any] = []
        self._state = weakref.proxy(state)  # which holds this record
        self._ready = ready
        self._awaited: Callable[[int], bool] | None = None
        self._limit = 0

    def update_from_output(self, output: Any) -> None:
        """Called by vLLM with the news of every step of its engine."""
        ids = output.new_token_ids
        if self.cached is None:
            self.cached = self._state.num_cached_tokens or 0
        self.token_ids += ids
        if output.new_prompt_logprobs_tensors is not None:
            self.prompt = output.new_prompt_logprobs_tensors.logprobs
        if output.new_logprobs is not None:
            # A copy: vLLM's row is a view of the message with the rows of all requests.
            self._rows.append(output.new_logprobs.logprobs.copy())
        if self._awaited and (len(self.token_ids) >= self._limit or any(map(self._awaited, ids))):
            self._awaited = None
            self._ready.set()

    def pop_prompt_logprobs(self) -> None:
        """Asked for by vLLM."""

    pop_prompt_token_id_logprobs = pop_prompt_logprobs

    def expect(self, awaited: Callable[[int], bool], limit: int) -> bool:
        """Ask to be woken by an awaited token, or by ``limit`` of them; True if they are there already."""
        there = len(self.token_ids) >= limit or any(map(awaited, self.token_ids))
        self._awaited, self._limit = None if there else awaited, limit
        return there

    def take(self) -> tuple[tuple[int, ...], list[float], list[list[float]]]:
        """Hand over the tokens, their log-probabilities, and the likeliest ones in falling order.

        vLLM's row for a token begins with the one that was chosen; the likeliest follow.
        """
        ids, rows = tuple(self.token_ids), self._rows
        self.token_ids, self._rows = [], []
        if not rows:
            return ids, [], []
        values = np.concatenate(rows)
        return ids, values[:, 0].tolist(), values[:, 1:].tolist()

    def reading(self, tokens: int) -> tuple[list[float], list[list[float]]]:
        """Log-probabilities of the prompt's last tokens, and the likeliest ones in falling order."""
        values = np.asarray(self.prompt[-tokens:])
        return values[:, 0].tolist(), values[:, 1:].tolist()


def keep_records(processor: Any) -> None:
    """Let vLLM's output processor keep a `TokenRecord` of each request, which its queue carries."""
    add = processor.add_request

    def add_request(request: Any, prompt: Any, parent: Any, index: int, queue: Any) -> None:
        add(request, prompt, parent, index, queue)
        state = processor.request_states[request.request_id]
        state.logprobs_processor = queue.record = TokenRecord(state, queue.ready)

    processor.add_request = add_request
