"""OpenAI's endpoints: chat completions, completions, models."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from stepwise.gateway import answers
from stepwise.gateway.answer_choice import Finished, Piece
from stepwise.gateway.answers import Shape
from stepwise.gateway.entrance import tenant_of
from stepwise.gateway.failures import refusal
from stepwise.gateway.fields import IGNORED
from stepwise.gateway.gateway import Gateway
from stepwise.gateway.http import ALIVE, KEEP_ALIVE, EventStream, event, unless_gone
from stepwise.gateway.job import Job
from stepwise.gateway.log import logger
from stepwise.gateway.schemas import ChatRequest, CompletionRequest

STARTED = 1_700_000_000
"""OpenAI's list says when each model was created; here it means nothing."""


def openai_routes(gateway: Gateway) -> APIRouter:
    routes = APIRouter(prefix="/v1")

    @routes.post("/chat/completions")
    async def chat(request: Request, asked: ChatRequest) -> Response:
        return await _answer(gateway, request, asked, answers.ChatShape())

    @routes.post("/completions")
    async def completions(request: Request, asked: CompletionRequest) -> Response:
        return await _answer(gateway, request, asked, answers.CompletionShape())

    @routes.get("/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_model(name) for name in gateway.knob.names]}

    @routes.get("/models/{name:path}")
    async def model(name: str) -> dict[str, Any]:
        """Any name that a request may hold, a target too."""
        gateway.knob.router(name, None)
        return _model(name)

    return routes


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": STARTED, "owned_by": "stepwise"}


async def _answer(
    gateway: Gateway, request: Request, asked: ChatRequest | CompletionRequest, shape: Shape
) -> Response:
    job = gateway.submit(asked, tenant_of(request))
    unit = gateway.engine.cost.unit
    headers = {IGNORED: ", ".join(asked.ignored)} if asked.ignored else {}
    try:
        if asked.stream:
            pieces = job.paced(KEEP_ALIVE)
            first = await unless_gone(request, anext(pieces))
            events = _events(shape, job, first, pieces, unit, asked.include_usage, gateway)
            return EventStream(events, job.close, headers)
        whole = await unless_gone(request, _all(job, gateway))
    except BaseException:
        await job.close()
        raise
    return JSONResponse(answers.whole(shape, job, whole, unit), headers=headers)


async def _all(job: Job, gateway: Gateway) -> list[Piece]:
    pieces: list[Piece] = []
    async for piece in job:
        if not pieces:
            gateway.first_text(job)
        pieces.append(piece)
    return pieces


async def _events(
    shape: Shape,
    job: Job,
    first: Piece | None,
    rest: AsyncIterator[Piece | None],
    unit: str,
    include_usage: bool,
    gateway: Gateway,
) -> AsyncIterator[bytes]:
    """The answer as server-sent events; a failure on the way is the last of them."""
    begun: set[int] = set()
    ends: list[Finished] = []
    extra = {"usage": None} if include_usage else {}
    try:
        async for piece in _with(first, rest):
            if piece is None:
                yield ALIVE
                continue
            if not begun:
                gateway.first_text(job)
            chunk = answers.chunk(shape, job, piece, first=piece.choice not in begun, unit=unit)
            yield event({**chunk, **extra})
            begun.add(piece.choice)
            ends += [piece.finished] if piece.finished else []
        if include_usage:
            yield event(answers.usage_chunk(shape, job, ends, unit))
        yield b"data: [DONE]\n\n"
    except Exception as error:
        refused = refusal(error)
        gateway.metrics.errors.labels(refused.code).inc()
        if refused.code == "internal_error":
            logger.error("a stream broke off", exc_info=error)
        yield event(refused.body())


async def _with(first: Piece | None, rest: AsyncIterator[Piece | None]) -> AsyncIterator[Piece | None]:
    yield first
    async for piece in rest:
        yield piece
