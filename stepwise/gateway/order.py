"""A request once it has been understood, and how its chains may end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal
from uuid import uuid4

from stepwise.engine.engine import Engine
from stepwise.gateway.keys import Tenant
from stepwise.gateway.spending import Reservation
from stepwise.types import Problem, Router, Usage

Outcome = Literal["finished", "failed", "cancelled"]


@dataclass(frozen=True)
class Order:
    """A request once it has been understood.

    Attributes:
        engines: one a chain: they share the models and differ in their sampling.
        default: whether the router is the server's default.
        prompts: length of each question's prompt in tokens.
        stream: whether text is wanted as it is generated.
        limited: whether the request itself bounds the length of its chains.
        apart: whether thoughts are wanted apart from the answer.
        turn: which of the user's messages it answers; 1 begins a conversation.
        reserved: on the tenant's account.
    """

    tenant: Tenant
    model: str
    router: Router
    default: bool
    problems: Sequence[Problem]
    prompts: Sequence[int]
    engines: Sequence[Engine]
    stops: Sequence[str]
    stream: bool
    limited: bool
    apart: bool
    turn: int
    reserved: Reservation
    id: str = field(default_factory=lambda: uuid4().hex)
    created: float = field(default_factory=time.time)

    def alone(self, i: int) -> Callable[[int], float]:
        """What the large model alone would cost for chain ``i``, by the tokens that it writes; exact
        where the models share a tokenizer."""
        engine, prompt = self.engines[i], self.prompts[i]
        return lambda written: engine.cost({engine.models[-1]: Usage(prompt=prompt, completion=written)})
