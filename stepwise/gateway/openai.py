"""OpenAI's endpoints: chat completions, completions, models."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from stepwise.gateway import answers
from stepwise.gateway.answer_choice import Finished, Piece
from stepwise.gateway.answers import Shape
from stepwise.gateway.failures import refusal
from stepwise.gateway.gateway import Gateway
from stepwise.gateway.http import EventStream, event, unless_gone
from stepwise.gateway.job import Job
from stepwise.gateway.keys import Keys
from stepwise.gateway.log import logger
from stepwise.gateway.schemas import ChatRequest, CompletionRequest

STARTED = 1_700_000_000
"""OpenAI's list says when each model was created; here it means nothing."""


def openai_routes(gateway: Gateway, keys: Keys) -> APIRouter:
    routes = APIRouter(prefix="/v1")

    @routes.post("/chat/completions")
    async def chat(request: Request, asked: ChatRequest) -> Response:
        return await _answer(gateway, keys, request, asked, answers.ChatShape())

    @routes.post("/completions")
    async def completions(request: Request, asked: CompletionRequest) -> Response:
        return await _answer(gateway, keys, request, asked, answers.CompletionShape())

    @routes.get("/models")
    async def models(request: Request) -> dict[str, Any]:
        keys.find(request.headers.get("authorization"))
        made = {"object": "model", "created": STARTED, "owned_by": "stepwise"}
        return {"object": "list", "data": [{"id": name, **made} for name in gateway.knob.names]}

    return routes


async def _answer(
    gateway: Gateway, keys: Keys, request: Request, asked: ChatRequest | CompletionRequest, shape: Shape
) -> Response:
    tenant = keys.find(request.headers.get("authorization"))
    job = gateway.submit(asked, tenant)
    unit = gateway.engine.cost.unit
    try:
        first = await unless_gone(request, job.first())
        gateway.first_text(job)
        if asked.stream:
            return EventStream(_events(shape, job, first, unit, asked.include_usage, gateway), job.close)
        pieces = [first, *await unless_gone(request, _rest(job))]
    except BaseException:
        await job.close()
        raise
    return JSONResponse(answers.whole(shape, job, pieces, unit))


async def _rest(job: Job) -> list[Piece]:
    return [piece async for piece in job]


async def _events(
    shape: Shape, job: Job, first: Piece, unit: str, include_usage: bool, gateway: Gateway
) -> AsyncIterator[bytes]:
    """The answer as server-sent events; a failure on the way is the last of them."""
    begun: set[int] = set()
    ends: list[Finished] = []
    extra = {"usage": None} if include_usage else {}
    piece: Piece | None = first
    rest = aiter(job)
    try:
        while piece is not None:
            chunk = answers.chunk(shape, job, piece, first=piece.choice not in begun, unit=unit)
            yield event({**chunk, **extra})
            begun.add(piece.choice)
            ends += [piece.finished] if piece.finished else []
            piece = await anext(rest, None)
        if include_usage:
            yield event(answers.usage_chunk(shape, job, ends, unit))
        yield b"data: [DONE]\n\n"
    except Exception as error:
        refused = refusal(error)
        gateway.metrics.errors.labels(refused.code).inc()
        if refused.code == "internal_error":
            logger.error("a stream broke off", exc_info=error)
        yield event(refused.body())
