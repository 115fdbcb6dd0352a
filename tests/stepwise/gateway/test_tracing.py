"""Telemetry: one span a chain, a child a step, and the trace goes on to upstream servers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from stepwise.backends.http.endpoint import Endpoint
from stepwise.engine.backend import TRACE
from stepwise.gateway.tracing import Tracing, trace_of
from tests.stepwise.gateway.serving import app_of, chat, client
from tests.worlds import engine

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


def recorder() -> tuple[Tracing, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracing(provider), exporter


async def ask(tracing: Tracing | None, world: Any = None, **more: Any) -> Any:
    headers = {"traceparent": PARENT, "tracestate": "vendor=1"}
    async with client(app_of(world, tracing=tracing)) as http:
        return (await http.post("/v1/chat/completions", json=chat("1 7 2", **more), headers=headers)).json()


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    return span.attributes or {}


async def test_a_chain_is_a_span_and_its_steps_are_its_children() -> None:
    tracing, exporter = recorder()
    answer = await ask(tracing, n=2)
    spans = exporter.get_finished_spans()
    chains = [span for span in spans if span.name == "chat stepwise"]
    assert len(chains) == 2
    for chain, choice in zip(
        sorted(chains, key=lambda span: span.start_time or 0), answer["choices"], strict=True
    ):
        assert chain.context.trace_id == int(TRACE_ID, 16) and chain.parent is not None
        assert f"{chain.parent.span_id:016x}" == "00f067aa0ba902b7"
        said, told = attributes(chain), choice["stepwise"]
        assert said["gen_ai.operation.name"] == "chat" and said["gen_ai.provider.name"] == "stepwise"
        assert said["gen_ai.request.model"] == "stepwise" and said["stepwise.router"] == "confidence"
        assert said["gen_ai.response.finish_reasons"] == ("stop",) and said["stepwise.cost"] == told["cost"]
        steps = [span for span in spans if span.parent and span.parent.span_id == chain.context.span_id]
        assert [step.name for step in steps] == [f"chat {step['model']}" for step in told["steps"]]
        for step, described in zip(steps, told["steps"], strict=True):
            completion = sum(usage["completion"] for usage in described["usage"].values())
            assert attributes(step)["gen_ai.usage.output_tokens"] == completion
            assert attributes(step)["stepwise.reason"] == described["reason"]
            assert (chain.start_time or 0) <= (step.start_time or 0) <= (step.end_time or 0)
    total = sum(attributes(chain)["gen_ai.usage.output_tokens"] for chain in chains)
    assert total == answer["usage"]["completion_tokens"]
    assert not any("answer is" in str(value) for span in spans for value in attributes(span).values())


async def test_a_chain_that_fails_is_an_error() -> None:
    tracing, exporter = recorder()
    world = engine()

    async def broken(*_: Any, **__: Any) -> Any:
        from stepwise.errors import BackendError

        raise BackendError("the model is out.", model="small")

    for backend in world.backends.values():
        backend.generate = broken  # type: ignore[method-assign]
    answer = await ask(tracing, world)
    assert "error" in answer
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR and attributes(span)["error.type"] == "failed"


async def test_upstream_servers_are_told_the_trace() -> None:
    told: list[tuple[str | None, str | None]] = []

    async def answer(request: web.Request) -> web.Response:
        told.append((request.headers.get("traceparent"), request.headers.get("tracestate")))
        return web.json_response({})

    app = web.Application()
    app.router.add_post("/v1/completions", answer)
    async with TestServer(app) as server:
        endpoint = Endpoint(str(server.make_url("/")).rstrip("/"))
        await endpoint.post("/v1/completions", {})
        TRACE.set({"traceparent": PARENT, "tracestate": "vendor=1"})
        await endpoint.post("/v1/completions", {})
        await endpoint.close()
    assert told == [(None, None), (PARENT, "vendor=1")]


@pytest.mark.parametrize("traced", [False, True])
async def test_the_models_are_called_within_the_trace(traced: bool) -> None:
    tracing, exporter = recorder()
    seen: list[Mapping[str, str]] = []
    world = engine()
    for backend in world.backends.values():

        async def noting(*given: Any, inner: Any = backend.generate, **options: Any) -> Any:
            seen.append(TRACE.get())
            return await inner(*given, **options)

        backend.generate = noting  # type: ignore[method-assign]
    await ask(tracing if traced else None, world)
    assert seen
    if not traced:
        assert all(headers == {"traceparent": PARENT, "tracestate": "vendor=1"} for headers in seen)
        return
    chain = next(span for span in exporter.get_finished_spans() if span.name == "chat stepwise")
    expected = f"00-{TRACE_ID}-{chain.context.span_id:016x}-01"
    assert all(headers == {"traceparent": expected, "tracestate": "vendor=1"} for headers in seen)


@pytest.mark.parametrize(
    "given",
    ["", "00", PARENT.upper(), PARENT + "-x", f"00-{'0' * 32}-00f067aa0ba902b7-01", "é" * 55, PARENT + "\n"],
)
def test_a_trace_that_is_none_is_not_passed_on(given: str) -> None:
    assert trace_of([(b"traceparent", given.encode("latin-1")), (b"tracestate", b"a=1")]) == {}


def test_a_state_that_is_too_long_is_left_out() -> None:
    state = b"a=" + b"1" * 600
    assert trace_of([(b"traceparent", PARENT.encode()), (b"tracestate", state)]) == {"traceparent": PARENT}


def test_nothing_of_it_is_imported_while_it_is_off() -> None:
    program = (
        "import sys, stepwise.cli.serve, stepwise.gateway\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.stdout.strip() == "[]", ended.stderr
