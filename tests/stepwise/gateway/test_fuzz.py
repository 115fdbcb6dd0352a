"""Whatever is sent: no 5xx, no traceback, refusals in one shape."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepwise import load_router
from stepwise.engine.engine import Engine
from stepwise.gateway import Limits, create_app, fields
from stepwise.gateway.schemas import ChatRequest, CompletionRequest
from stepwise.types import Router
from tests.stepwise.gateway.serving import CONFIDENCE, client
from tests.worlds import adder, engine

USER = [{"role": "user", "content": "1 7"}]
FIELDS = [*ChatRequest.model_fields, *CompletionRequest.model_fields, *fields.REQUEST_NEUTRAL]
FIELDS += [*sorted(fields.REQUEST_BOOKKEEPING), "", "x", "é"]
EXAMPLES = int(os.environ.get("STEPWISE_FUZZ", "1000"))
"""Fuzzed bodies: 5,000 before a release."""
NOISE = settings(deadline=None, suppress_health_check=list(HealthCheck))


def robust_engine() -> Engine:
    """Adders that are asked anything: a question that is no sum is as good as another."""
    world = engine()
    for backend in world.backends.values():
        backend._script = _robust(backend._script)  # type: ignore[attr-defined]
    return world


def app() -> Any:
    routers: dict[str, Router] = {"nano-ppo": load_router("nano-ppo", budget=0.4), "confidence": CONFIDENCE}
    return create_app(robust_engine(), routers, limits=Limits(body=20_000))


def _robust(script: Any) -> Any:
    def written(text: str) -> str:
        try:
            return str(script(text))
        except ValueError:
            return "I do not know.\n" * 3

    return written


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["stepwise", "user"]),
)
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(FIELDS), st.text(max_size=8)), inner, max_size=4),
    ),
    max_leaves=12,
)
knobs = st.builds(
    "stepwise:{}={}".format,
    st.sampled_from(["budget", "threshold", "max_accuracy_loss", "router", "x", ""]),
    st.one_of(st.floats(), st.text(max_size=6), st.integers(-2, 2)),
)
models = st.one_of(
    st.sampled_from(["stepwise", "stepwise:small", "stepwise:confidence", "gpt-4"]),
    knobs,
    st.text(max_size=9),
)
messages = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "system", "tool"]), "content": anything}),
    max_size=3,
)
bodies = st.one_of(
    anything,
    st.builds(
        lambda base, more: {**base, **more},
        st.fixed_dictionaries(
            {"model": models},
            optional={
                    "messages": st.one_of(messages, st.just(USER)),
                    "input": st.one_of(messages, st.just(USER), st.text(max_size=9)),
                    "prompt": st.text(max_size=9),
                },
        ),
        st.dictionaries(st.sampled_from(FIELDS[:-3]), anything, max_size=2),
    ),
)  # fmt: skip
damage = st.tuples(st.integers(0, 200), st.binary(max_size=3))


def check(status: int, text: str) -> None:
    assert status < 500, text
    assert "Traceback" not in text and "internal_error" not in text
    if status != 200:
        assert set(json.loads(text)["error"]) >= {"message", "type", "code", "param"}


@pytest.mark.slow
def test_fuzzed_bodies() -> None:
    loop, http = asyncio.new_event_loop(), client(app())
    paths = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/stepwise/estimate"]

    @given(st.sampled_from(paths), bodies, st.one_of(st.none(), damage), st.booleans())
    @settings(NOISE, max_examples=EXAMPLES)
    def send(path: str, body: Any, damage: tuple[int, bytes] | None, json_type: bool) -> None:
        content = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
        if damage is not None:
            place, noise = damage
            content = content[:place] + noise + content[place + len(noise) :]
        kind = "application/json" if json_type or damage else "text/plain"
        answer = loop.run_until_complete(http.post(path, content=content, headers={"content-type": kind}))
        check(answer.status_code, answer.text)

    try:
        send()
        loop.run_until_complete(http.aclose())
    finally:
        loop.close()


@pytest.mark.slow
def test_what_the_schema_allows_and_what_it_does_not() -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", app())
    operations: list[Any] = [one.ok() for one in cast(Any, schema.get_all_operations())]
    assert {"/v1/chat/completions", "/v1/completions", "/v1/models", "/metrics"} <= {
        one.path for one in operations
    }
    good, bad = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
    for operation in operations:
        for mode in (good, bad) if operation.method == "post" else (good,):
            _send_all(operation.as_strategy(generation_mode=mode))


def _send_all(cases: Any) -> None:
    @given(cases)
    @settings(NOISE, max_examples=40)
    def send(case: Any) -> None:
        answer = case.call()
        assert answer.status_code < 500, answer.text
        assert "Traceback" not in answer.text

    send()


def test_the_adders_still_add() -> None:
    """The robust script leaves sums alone, so that fuzzing goes through whole chains."""
    assert _robust(adder()._script)("1 7\n") == "0 + 1 = 1.\n1 + 7 = 8.\nThe answer is 8."
