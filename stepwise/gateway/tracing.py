"""Chains as OpenTelemetry spans, one a chain with a child a step; and the trace that servers are told.

The names of attributes are those of the semantic conventions for generative AI, where they have one
(https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/); what routing adds begins with
``stepwise.``. No text is in them. Without telemetry the trace of a request (W3C Trace Context) is passed on
as it came.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from stepwise.engine.backend import TRACE
from stepwise.extras import missing_extra
from stepwise.gateway.answer_choice import Done, Finished

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

    from stepwise.gateway.order import Order, Outcome

PARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
LONGEST_STATE = 512
"""Characters of ``tracestate`` that are passed on; longer ones go (W3C Trace Context, section 3.3.1.5)."""


def trace_of(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The trace context of a request; empty where there is none, or none that is well formed."""
    wanted = {b"traceparent": "", b"tracestate": ""}
    given = wanted | {name: value.decode("latin-1") for name, value in headers if name in wanted}
    parent, state = given.values()
    if not PARENT.fullmatch(parent):
        return {}
    known = 0 < len(state) <= LONGEST_STATE and state.isascii() and state.isprintable()
    return {"traceparent": parent, **({"tracestate": state} if known else {})}


class Untraced:
    """No telemetry: upstream servers are told the trace that the request came with."""

    def begin(self, order: Order, chain: int) -> Mapping[str, str]:
        """A chain begins: what upstream servers are told of it."""
        return TRACE.get()

    def end(
        self, order: Order, chain: int, steps: Sequence[Done], end: Finished, outcome: Outcome, unit: str
    ) -> None:
        """A chain is over, however it ended."""

    def close(self) -> None:
        """Send what waits."""


class Tracing(Untraced):
    """Writes spans.

    Args:
        provider: where they go.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("stepwise")
        self._spans: dict[tuple[str, int], Span] = {}

    def begin(self, order: Order, chain: int) -> Mapping[str, str]:
        from opentelemetry.trace import set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        propagator, told = TraceContextTextMapPropagator(), dict[str, str]()
        parent = propagator.extract(TRACE.get())
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "stepwise",
            "gen_ai.request.model": order.model,
        }
        span = self._tracer.start_span(f"chat {order.model}", parent, attributes=attributes)
        self._spans[order.id, chain] = span
        propagator.inject(told, set_span_in_context(span))
        return told

    def end(
        self, order: Order, chain: int, steps: Sequence[Done], end: Finished, outcome: Outcome, unit: str
    ) -> None:
        from opentelemetry.trace import Status, StatusCode

        span = self._spans.pop((order.id, chain))
        for since, done in pairwise([span.start_time, *steps]):  # type: ignore[attr-defined]
            self._step(span, since if isinstance(since, int) else _ns(since.time), done, unit)
        span.set_attributes(_chain(order, end, unit))
        if outcome != "finished":
            span.set_attribute("error.type", outcome)
            span.set_status(Status(StatusCode.ERROR, end.trace.error or outcome))
        span.end()

    def _step(self, chain: Span, begun: int, done: Done, unit: str) -> None:
        from opentelemetry.trace import SpanKind, set_span_in_context

        name, context = f"chat {done.step.model}", set_span_in_context(chain)
        attributes = _step(done, unit)
        span = self._tracer.start_span(
            name, context, kind=SpanKind.CLIENT, attributes=attributes, start_time=begun
        )
        span.end(max(_ns(done.time), begun))

    def close(self) -> None:
        self._provider.shutdown()


def _chain(order: Order, end: Finished, unit: str) -> dict[str, Any]:
    trace = end.trace
    return _known({
        "gen_ai.response.id": order.id,
        "gen_ai.response.finish_reasons": [end.reason],
        "gen_ai.usage.input_tokens": trace.prompt_tokens,
        "gen_ai.usage.output_tokens": sum(usage.completion for usage in trace.usage.values()),
        "stepwise.router": order.router.name,
        "stepwise.threshold": getattr(order.router, "threshold", None),
        "stepwise.stop": end.stop,
        "stepwise.steps": len(trace.steps),
        "stepwise.cost": trace.cost,
        "stepwise.cost_large_only": end.alone,
        "stepwise.cost_unit": unit,
        "stepwise.degraded": trace.degraded,
    })  # fmt: skip


def _step(done: Done, unit: str) -> dict[str, Any]:
    step, decision = done.step, done.step.decision
    usage = step.usage.values()
    return _known({
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "stepwise",
        "gen_ai.request.model": step.model,
        "gen_ai.response.model": step.model,
        "gen_ai.usage.input_tokens": sum(part.prompt for part in usage),
        "gen_ai.usage.cache_read.input_tokens": sum(part.cached for part in usage),
        "gen_ai.usage.output_tokens": sum(part.completion for part in usage),
        "stepwise.discarded_tokens": sum(part.discarded for part in usage),
        "stepwise.number": done.number,
        "stepwise.score": decision.score if decision else None,
        "stepwise.reason": decision.reason if decision else None,
        "stepwise.cost": step.cost,
        "stepwise.cost_unit": unit,
    })  # fmt: skip


def _known(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)


def telemetry() -> Tracing:
    """Spans that go where OpenTelemetry's own environment variables say (OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_SERVICE_NAME, ...), in batches.

    Raises:
        ConfigError: if the extra is missing.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise missing_extra("telemetry", "otel") from error
    resource = Resource({SERVICE_NAME: "stepwise"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)
