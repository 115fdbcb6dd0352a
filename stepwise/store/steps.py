"""The step store: completions by content, so that nothing is ever generated twice.

With deterministic sampling the tree of a problem's chains is a value. A sweep over thresholds, a
training epoch, or a rerun after a crash pays only for nodes that nobody has visited.

`stepwise.store.sqlite` keeps it in a file, `stepwise.store.redis` on a server for many machines.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple
from typing import Protocol

from stepwise.engine.backend import Completion, Sampling
from stepwise.engine.prefix import Prefix
from stepwise.types import Signals, Usage

Entry = tuple[bytes, Completion]
"""A completion under its key."""


class Store(Protocol):
    """Keeps completions; the first under a key stays. Implementations must be safe to call from several
    threads.

    Attributes:
        remote: whether a call waits for another machine, so that many are better asked at once.
    """

    @property
    def remote(self) -> bool: ...

    def get(self, key: bytes) -> Completion | None: ...

    def put(self, key: bytes, completion: Completion) -> None: ...

    def get_many(self, keys: Sequence[bytes]) -> list[Completion | None]:
        """What is known, in the order of the keys."""
        ...

    def put_many(self, entries: Iterable[Entry]) -> int:
        """Keep all at once; returns how many were new."""
        ...

    def pages(self, size: int = 1000) -> Iterator[list[Entry]]:
        """Everything that is kept, about ``size`` entries at a time, in no particular order."""
        ...

    def close(self) -> None: ...


def key(revision: str, prefix: Sequence[int], sampling: Sampling) -> bytes:
    """Content address of a completion: model revision, prefix tokens, sampling (16 bytes)."""
    tokens = prefix if isinstance(prefix, Prefix) else Prefix(prefix)
    how = repr((revision, sampling, *([sampling.read] if sampling.read else []))).encode()
    return hashlib.blake2b(how + tokens.digest(), digest_size=16).digest()


def dump(completion: Completion) -> str:
    """A list without names, which is read twice as fast."""
    signals, usage = astuple(completion.signals), astuple(completion.usage)
    values = completion.text, completion.token_ids, usage, signals, completion.finish
    return json.dumps(values, separators=(",", ":"))


def load(text: str | bytes) -> Completion:
    """What `dump` wrote."""
    written, token_ids, usage, measured, finish = json.loads(text)
    return Completion(written, tuple(token_ids), Usage(*usage), Signals(*measured), finish)
