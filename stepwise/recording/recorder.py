"""A backend that records: what the tree holds is not generated again, what a model writes goes into it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from stepwise.engine.backend import Backend, Completion, Lost, Sampling, StreamingBackend, reads, unaccounted
from stepwise.errors import ConfigError
from stepwise.recording.records import Node, Read, Record, place
from stepwise.recording.tree import Tree


class Prompts:
    """Tells which problem a prefix belongs to: prompts differ, and chains begin with them."""

    def __init__(self) -> None:
        self._problems: dict[tuple[int, ...], str] = {}
        self._lengths: set[int] = set()

    def add(self, prompt: Iterable[int], problem: str) -> None:
        """Raises:
        ConfigError: if two problems have the same prompt.
        """
        ids = tuple(prompt)
        if self._problems.setdefault(ids, problem) != problem:
            raise ConfigError(f"problems {self._problems[ids]!r} and {problem!r} ask the same question.")
        self._lengths.add(len(ids))

    def split(self, prefix: Sequence[int]) -> tuple[str, tuple[int, ...]]:
        """The problem, and the chain after its prompt.

        Raises:
            ConfigError: if the prefix begins with no known prompt.
        """
        ids = tuple(prefix)
        for length in self._lengths:
            problem = self._problems.get(ids[:length])
            if problem is not None:
                return problem, ids[length:]
        raise ConfigError("a chain was started with a question that is not among those to record.")


class Records(Protocol):
    """What is recorded and takes more: a `Recording`, or its part in memory."""

    tree: Tree

    def add(self, record: Record) -> None: ...


class Recorder:
    """Lets a model write whole steps, and keeps them. Chains that ask for the same step wait for one another.

    Args:
        backend: runs the model.
        model: its name in the recording.
        limit: tokens of the longest step. A probe records the whole step that it is the first token of.
    """

    def __init__(
        self, backend: Backend, model: str, prompts: Prompts, recording: Records, limit: int
    ) -> None:
        self.revision = backend.revision
        self.tokenizer = backend.tokenizer
        self.parameters = backend.parameters
        self.context = backend.context
        self.reads = reads(backend)
        self.generated = 0
        self._backend = backend
        self._model = model
        self._prompts = prompts
        self._recording = recording
        self._limit = limit
        self._writing: dict[tuple[str, tuple[int, ...]], asyncio.Lock] = {}

    def encode(self, text: str, *, first: bool = True) -> tuple[int, ...]:
        return self._backend.encode(text, first=first)

    async def generate(
        self, prefix: Sequence[int], sampling: Sampling, lost: Lost = unaccounted
    ) -> Completion:
        problem, chain = self._prompts.split(prefix)
        if sampling.read:
            return await self._read(problem, chain, prefix, sampling, lost)
        known, here = partial(self._known, problem, chain, sampling.max_tokens), (problem, chain)
        if (step := known()) is not None:
            return step
        async with self._writing.setdefault(here, asyncio.Lock()):
            if (step := known()) is None:  # nobody has written it meanwhile
                step = await self._backend.generate(prefix, self._whole(sampling), lost)
                self.generated += step.usage.completion
                self._recording.add(Node.of(problem, self._model, place(chain), step, self._opening(step)))
        self._writing.pop(here, None)
        return known() or step

    async def _read(
        self, problem: str, chain: tuple[int, ...], prefix: Sequence[int], sampling: Sampling, lost: Lost
    ) -> Completion:
        """The same for a call that only reads; two chains that ask at once both pay for it."""
        known = self._recording.tree.reading(problem, self._model, chain, sampling.read)
        if known is None:
            known = await self._backend.generate(prefix, sampling, lost)
            self._recording.add(Read.of(problem, self._model, place(chain), known))
        return known

    def _whole(self, sampling: Sampling) -> Sampling:
        """The same for a whole step, where a probe was asked for."""
        ends = sampling.boundaries and replace(sampling.boundaries, at_limit=True)
        return replace(sampling, max_tokens=self._limit, boundaries=ends)

    def _known(self, problem: str, chain: tuple[int, ...], tokens: int) -> Completion | None:
        return self._recording.tree.completion(problem, self._model, chain, tokens)

    def _opening(self, step: Completion) -> int:
        backend = self._backend
        return len(backend.text((), step.token_ids[:1])) if isinstance(backend, StreamingBackend) else 0

    async def close(self) -> None:
        await self._backend.close()
