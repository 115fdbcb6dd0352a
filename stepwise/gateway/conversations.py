"""Who has read what of the conversations that go on: every turn brings all earlier ones.

An answer is remembered by a hash of everything up to it, the models that wrote or read it by name. So a later
turn can be priced as cached where the servers say that it was, and no tenant can tell what another one asked.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence

from stepwise.types import Problem, Turn

REMEMBERED = 10_000
"""Answers."""


class Conversations:
    """Answers that have been given, the latest ones."""

    def __init__(self) -> None:
        self._readers: OrderedDict[bytes, frozenset[str]] = OrderedDict()

    def read(self, tenant: str, problem: Problem) -> dict[str, int]:
        """By model, how many of the conversation's first messages it has read in earlier turns."""
        read: dict[str, int] = {}
        for length, address in _answers(tenant, _said(problem)):
            readers = self._readers.get(address, frozenset())
            read |= dict.fromkeys(readers, length)
        return read

    def answered(self, tenant: str, problem: Problem, message: str, readers: Collection[str]) -> None:
        """Remember who has read what led to an answer.

        Args:
            message: the answer, as it will come back: a text, or JSON where the problem has a form.
        """
        said = [*_said(problem), ("assistant", *_parts(message, problem))]
        *_, (_, address) = _answers(tenant, said)
        self._readers[address] = frozenset(readers)
        self._readers.move_to_end(address)
        if len(self._readers) > REMEMBERED:
            self._readers.popitem(last=False)


Said = tuple[str, str, str]
"""A role, a text, and calls of tools."""


def _said(problem: Problem) -> list[Said]:
    if problem.form is None:
        return [(turn.role, turn.text, "") for turn in (*problem.turns, Turn("user", problem.question))]
    messages = map(json.loads, problem.form.messages)
    return [(message["role"], message["content"] or "", _calls(message)) for message in messages]


def _parts(message: str, problem: Problem) -> tuple[str, str]:
    if problem.form is None:
        return message, ""
    read = json.loads(message)
    return read["content"], _calls(read)


def _calls(message: dict[str, object]) -> str:
    return json.dumps(message.get("tool_calls") or "", sort_keys=True)


def _answers(tenant: str, said: Sequence[Said]) -> Iterator[tuple[int, bytes]]:
    """For each of the assistant's messages, how many came before it, and the address of all up to it."""
    link = tenant.encode()
    for length, (role, text, calls) in enumerate(said):
        link = hashlib.blake2b(link + repr((role, text.strip(), calls)).encode(), digest_size=16).digest()
        if role == "assistant":
            yield length, link
