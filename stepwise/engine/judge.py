"""A model that judges drafts: a process reward model, or any model asked for a verdict.

It reads the chain and the draft and writes one token. What the token means is for the scorer to
say (`stepwise.routers.judged`); what it cost is charged to the draft like everything else.
"""

from __future__ import annotations

from dataclasses import dataclass

from stepwise.engine.backend import Backend


@dataclass(frozen=True)
class Judge:
    """Who judges and how it is asked.

    Attributes:
        backend: runs the judge.
        suffix: text after the draft that asks for the verdict; empty for a reward model that was
            trained to write its verdict right after a step.
        name: of the judge in usage and costs.
    """

    backend: Backend
    suffix: str = ""
    name: str = "judge"
