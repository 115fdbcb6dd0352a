"""A scripted model with a chat template of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepwise.backends.scripted import ScriptedBackend
from stepwise.types import Turn


class Conversing(ScriptedBackend):
    """Reads ``[role]text`` for every turn, answers behind ``[assistant]``, and keeps the prompts."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.read: list[str] = []

    def converse(self, turns: Sequence[Turn]) -> tuple[int, ...]:
        return self.encode("".join(f"[{turn.role}]{turn.text}" for turn in turns) + "[assistant]")

    def open(self, prefix: Sequence[int]) -> int:
        self.read.append("".join(map(chr, prefix)))
        return super().open(prefix)


def asked(model: Conversing) -> list[str]:
    """What it has read, a call each."""
    return model.read
