"""What Prometheus reads. One registry per app: two gateways in one process do not mix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from stepwise.gateway import breakers
from stepwise.gateway.answers import costs, switches
from stepwise.types import Trace, Usage

if TYPE_CHECKING:
    from stepwise.calibration import OnlineThreshold
    from stepwise.engine.backend import Backend
    from stepwise.gateway.admission import Admission
    from stepwise.gateway.shared import SharedSpending

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class GatewayMetrics:
    """Counts what passes through a gateway and reads the state of its parts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter("requests", "HTTP requests", "endpoint", "status")
        self.seconds = self._histogram("request_seconds", "From arrival to the last byte", "endpoint")
        self.first_seconds = self._histogram("first_text_seconds", "From arrival to the first text")
        self.step_seconds = self._histogram("step_seconds", "From one step's end to the next", "model")
        self.chains = self._counter("chains", "Chains of thought", "router", "outcome")
        self.errors = self._counter("errors", "Refusals and failures by code", "code")
        self.steps = self._counter("steps", "Steps by the model that wrote them", "model")
        self.switches = self._counter("switches", "Steps written by another model than the step before")
        self.tokens = self._counter("tokens", "Measured tokens (prompt includes cached)", "model", "kind")
        self.cost = self._counter("cost", "Cost of all chains, in the engine's unit")
        self.alone = self._counter("cost_large_only", "What the large model alone would have cost for them")
        self._prompt = self._cached = self._cost = self._alone = 0.0
        self._ended = 0
        self._gauge("cached_share", "Share of prompt tokens that were cached").set_function(
            lambda: self._cached / self._prompt if self._prompt else 0.0
        )
        self._gauge("estimated_saving", "1 - cost / cost of large-only").set_function(
            lambda: 1 - self._cost / self._alone if self._alone else 0.0
        )

    def spent(self, unit: str) -> Mapping[str, Any]:
        """What all chains have cost since the server started, against the large model alone."""
        return {"chains": self._ended, **costs(self._cost, self._alone, unit)}

    def chain(self, trace: Trace, alone: float, router: str, outcome: str) -> None:
        """Count a chain when it is over."""
        self.chains.labels(router, outcome).inc()
        self.switches.inc(switches(trace))
        for step in trace.steps:
            self.steps.labels(step.model).inc()
        for model, usage in trace.usage.items():
            self._usage(model, usage)
        self.cost.inc(trace.cost)
        self.alone.inc(alone)
        self._cost += trace.cost
        self._alone += alone
        self._ended += 1

    def _usage(self, model: str, usage: Usage) -> None:
        self._prompt += usage.prompt
        self._cached += usage.cached
        for kind in ("prompt", "cached", "completion", "discarded"):
            self.tokens.labels(model, kind).inc(getattr(usage, kind))

    def watch_admission(self, admission: Admission) -> None:
        self._gauge("running_chains", "Chains that run").set_function(lambda: admission.running)
        self._gauge("waiting_chains", "Chains in the queue").set_function(lambda: admission.waiting)

    def watch_online(self, online: OnlineThreshold) -> None:
        """The threshold that keeps the spend on target."""
        self._gauge("online_threshold", "Where it is").set_function(lambda: online.threshold)
        self._gauge("online_target", "The budget, a fraction of large-only").set_function(
            lambda: online.target
        )
        self._gauge("online_position", "On the calibrated grid, 0 to 1").set_function(lambda: online.position)
        self._gauge("online_updates", "Chains it has learned from").set_function(lambda: online.count)

    def watch_state(self, spending: SharedSpending) -> None:
        """Whether the accounts that replicas share can be reached."""
        self._gauge("state_reachable", "1, or 0 while the shared accounts are down").set_function(
            lambda: float(not spending.away)
        )

    def watch_backends(self, backends: Mapping[str, Backend]) -> None:
        """The circuit breakers of the backends that have one."""
        states = {name: backend for name, backend in backends.items() if breakers.state(backend)}
        if states:
            gauge = self._gauge(
                "breaker_state", "0 ready, 1 trying again, 2 failing, 3 not answering", ["model"]
            )
            for name, backend in states.items():
                gauge.labels(name).set_function(partial(_position, backend))

    def text(self) -> bytes:
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"stepwise_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: Iterable[str] = ()) -> Gauge:
        return Gauge(f"stepwise_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"stepwise_{name}", text, labels, registry=self.registry, buckets=SECONDS)


def _position(backend: Backend) -> int:
    """A breaker's state as a number."""
    return breakers.STATES.index(breakers.state(backend) or breakers.STATES[0])
