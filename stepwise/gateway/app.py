"""The app: OpenAI's endpoints over an engine, what operators need, and a page to see it think."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from stepwise import __version__
from stepwise.engine.engine import Engine
from stepwise.errors import StepwiseError
from stepwise.gateway.admission import Limits
from stepwise.gateway.decisions import Decisions
from stepwise.gateway.entrance import Authenticated, Bodies, Hosts, Paths
from stepwise.gateway.failures import invalid, refusal
from stepwise.gateway.feedback import feedback_routes
from stepwise.gateway.fields import IGNORED
from stepwise.gateway.gateway import Gateway
from stepwise.gateway.http import Gone, Observed
from stepwise.gateway.keys import Keys
from stepwise.gateway.misdirected import misdirected
from stepwise.gateway.openai import openai_routes
from stepwise.gateway.operations import operations_routes
from stepwise.gateway.page import FOLDER, QuestionEstimator, page_routes
from stepwise.gateway.responses import responses_routes
from stepwise.gateway.spending import Spending
from stepwise.gateway.tracing import Untraced
from stepwise.types import Router

EXPOSED = (IGNORED, "retry-after", "x-request-id")
"""Headers that pages of other origins may read."""


def create_app(
    engine: Engine,
    routers: Mapping[str, Router],
    *,
    keys: Keys | None = None,
    limits: Limits | None = None,
    spending: Spending | None = None,
    estimator: QuestionEstimator | None = None,
    examples: Sequence[str] = (),
    purpose: str = "",
    conversation: bool = False,
    log_prompts: bool = False,
    aliases: Mapping[str, str] | None = None,
    hosts: Collection[str] = (),
    origins: Sequence[str] = (),
    decisions: Decisions | None = None,
    tracing: Untraced | None = None,
) -> FastAPI:
    """A gateway over an engine. The engine stays the caller's, who also closes it.

    Args:
        engine: runs the chains.
        routers: by name; the first is the default. Every model is also a router of its own name.
        keys: who may ask; anyone unless given.
        limits: sizes, concurrency, time.
        spending: accounts, and the moving threshold of the default router.
        estimator: says before the start what a model would make of a question (SCOPE).
        examples: questions that the page offers.
        purpose: what the models can be asked, in a sentence on the page.
        conversation: write system messages and earlier turns into the question. Otherwise the models get them
            as turns, or the request is refused where they take none.
        log_prompts: let questions and answers into the log and the list of recent requests.
        aliases: other names of models: what clients ask for, and what they get ("stepwise:budget=0.25").
        hosts: names that requests must call the server by; any unless given.
        origins: whose pages may ask (CORS), "*" for all; none but the server's own unless given.
        decisions: logs what routers decide, on chains that they route or only watch; also takes feedback.
        tracing: writes chains as spans, where telemetry is on.

    Raises:
        ConfigError: if the routers cannot serve this engine.
    """
    limits, keys, spending = limits or Limits(), keys or Keys(), spending or Spending()
    gateway = Gateway(
        engine, routers, limits=limits, spending=spending, conversation=conversation,
        log_prompts=log_prompts, aliases=aliases or {}, decisions=decisions, tracing=tracing,
    )  # fmt: skip

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        saving = asyncio.create_task(spending.keep_saved())
        yield
        saving.cancel()
        await asyncio.wait({saving})
        await spending.close()
        if decisions is not None:
            await decisions.close()
        if tracing is not None:
            await asyncio.to_thread(tracing.close)

    app = FastAPI(
        title="stepwise",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.include_router(openai_routes(gateway))
    app.include_router(responses_routes(gateway))
    app.include_router(operations_routes(gateway))
    if decisions is not None:
        app.include_router(feedback_routes(decisions))
    app.include_router(page_routes(gateway, estimator, examples, purpose))
    app.mount("/static", StaticFiles(directory=FOLDER))
    app.add_middleware(Bodies, limit=limits.body)  # the last one that is added is the first that is passed
    app.add_middleware(Authenticated, keys=keys)
    app.add_middleware(Paths)
    if hosts:
        app.add_middleware(Hosts, hosts=hosts, origins=origins)
    if origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"],
            expose_headers=EXPOSED,
        )  # fmt: skip
    app.add_middleware(Observed, metrics=gateway.metrics)
    _answer_failures(app, gateway)
    return app


def _answer_failures(app: FastAPI, gateway: Gateway) -> None:
    """Every failure leaves in one shape, and is counted."""

    async def fail(request: Request, error: Exception) -> Response:
        if isinstance(error, Gone):
            return Response(status_code=499)
        if isinstance(error, RequestValidationError):
            refused = invalid(error.errors())
        elif isinstance(error, HTTPException):
            refused = misdirected(request.method, request.url.path, error)
        else:
            refused = refusal(error)
        gateway.metrics.errors.labels(refused.code).inc()
        return refused.response()

    for kind in (StepwiseError, RequestValidationError, HTTPException, TimeoutError, Gone, Exception):
        app.add_exception_handler(kind, fail)
