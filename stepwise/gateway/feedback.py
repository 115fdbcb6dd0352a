"""What became of an answer: clients say it, and the log of decisions keeps it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field

from stepwise.gateway.decisions import Decisions
from stepwise.gateway.entrance import tenant_of
from stepwise.gateway.schemas import MAX_CHAINS, Name, Number, Strict, Whole


class Feedback(Strict):
    """On one choice of an answer.

    Attributes:
        id: of the answer, as it came.
        index: of the choice.
        correct: between 0, wrong, and 1, right.
    """

    id: Name
    index: Annotated[Whole, Field(ge=0, lt=MAX_CHAINS)] = 0
    correct: Annotated[Number, Field(ge=0, le=1)] | bool

    @property
    def chain(self) -> str:
        """The chain behind the choice: "chatcmpl-ID" is the answer of the chains ID-0, ID-1, ..."""
        return f"{self.id.rpartition('-')[2]}-{self.index}"


def feedback_routes(decisions: Decisions) -> APIRouter:
    routes = APIRouter(prefix="/v1")

    @routes.post("/feedback", status_code=204)
    async def feedback(request: Request, given: Feedback) -> None:
        decisions.label(given.chain, float(given.correct), tenant_of(request))

    return routes
